"""Name the digit in each image. Nothing here is about daskscore: the same script runs as a ParallelRunStep."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
from PIL import Image

MODEL = Path(__file__).parent / "model" / "digits.joblib"


def init() -> None:
    """Called once in each scorer process."""
    global model
    model = joblib.load(MODEL)


def run(mini_batch: list[str]) -> list[str]:
    """Called with the paths of some images; returns a row for each."""
    found = model.predict(np.stack([pixels(path) for path in mini_batch]))
    return [f"{Path(path).name}: {digit}" for path, digit in zip(mini_batch, found, strict=True)]


def pixels(path: str | Path) -> np.ndarray:
    """An image as the classifier wants it; train.py uses this too, so that both see the same."""
    with Image.open(path) as image:
        return np.asarray(image, dtype=float).ravel()
