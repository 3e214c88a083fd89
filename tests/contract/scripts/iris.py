"""Name the species of records, with a model that is found by its registered name."""

import argparse
import json

from azureml.core.model import Model

parser = argparse.ArgumentParser(description="Iris species")
parser.add_argument("--model_name", dest="model_name", required=True)
args, unknown_args = parser.parse_known_args()


def init():
    global centres
    with open(Model.get_model_path(args.model_name)) as file:
        centres = json.load(file)


def run(input_data):
    def nearest(length):
        return min(centres, key=lambda name: abs(centres[name] - length))

    input_data["variety"] = [nearest(length) for length in input_data["petal.length"]]
    return input_data
