"""Compare the rows of the finished job with labels.csv."""

from __future__ import annotations

import csv
from pathlib import Path

from train import HELD_OUT

HERE = Path(__file__).parent
ROWS = HERE / "out" / "predictions.txt"


def main() -> None:
    with open(HERE / "labels.csv", newline="") as file:
        labels = {row["name"]: row["label"] for row in csv.DictReader(file)}
    lines = ROWS.read_text().splitlines()
    found = dict(line.split(": ") for line in lines)
    if len(lines) != len(labels) or found.keys() != labels.keys():
        raise SystemExit(f"{ROWS} has {len(lines)} rows for {len(labels)} images; there must be one for each")
    unseen = HELD_OUT.read_text().split()
    right = sum(found[name] == labels[name] for name in unseen)
    print(f"{len(lines)} rows in {ROWS}")
    print(f"accuracy on the {len(unseen)} images that the classifier has not seen: {right / len(unseen):.1%}")


if __name__ == "__main__":
    main()
