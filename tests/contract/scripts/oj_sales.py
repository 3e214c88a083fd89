"""Forecast the sales of each store and brand into a file of its own; nothing goes into a common file."""

import argparse
from pathlib import Path


def init():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--drop_cols", type=str, default="")
    parser.add_argument("--forecasts", type=Path)
    parser.add_argument("--partition_keys", type=str)
    global args
    args, _ = parser.parse_known_args()
    print("the keys are", args.partition_keys)  # noqa: T201 - as scripts do


def run(input_data, mini_batch_context):
    folder = args.forecasts.joinpath(*(str(value) for value in mini_batch_context.partition_key_value.values()))
    folder.mkdir(parents=True, exist_ok=True)
    frame = input_data.drop(columns=args.drop_cols.split(","))
    (folder / "mean.txt").write_text(f"{frame['Quantity'].mean():g}")
    return []
