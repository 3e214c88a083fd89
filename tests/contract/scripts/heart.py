"""Score csv files that a deployment is given, and say for each record where it came from."""

import json
import logging
import os
from pathlib import Path

import pandas as pd

logger = logging.getLogger(__name__)


def init():
    global limit
    model = os.path.join(os.environ["AZUREML_MODEL_DIR"], "model")
    limit = json.loads(Path(model, "limit.json").read_text())["age"]
    logger.info("the model is loaded")


def run(mini_batch):
    print(f"run called with {len(mini_batch)} files")  # noqa: T201 - as scripts do
    frames = []
    for path in mini_batch:
        data = pd.read_csv(path)
        data["prediction"] = (data["age"] > limit).astype(int)
        data["file"] = os.path.basename(path)
        frames.append(data)
    return pd.concat(frames)
