"""Train a classifier on half of the images and note which half it has not seen."""

from __future__ import annotations

import csv
from pathlib import Path

import joblib
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC

from score import MODEL, pixels

HERE = Path(__file__).parent
HELD_OUT = MODEL.parent / "held_out.txt"


def main() -> None:
    with open(HERE / "labels.csv", newline="") as file:
        names, labels = zip(*((row["name"], row["label"]) for row in csv.DictReader(file)), strict=True)
    known, held_out, known_labels, _ = train_test_split(names, labels, test_size=0.5, stratify=labels, random_state=0)
    model = make_pipeline(MinMaxScaler(), SVC(gamma="scale"))
    model.fit(np.stack([pixels(HERE / "images" / name) for name in known]), known_labels)
    MODEL.parent.mkdir(exist_ok=True)
    joblib.dump(model, MODEL)
    HELD_OUT.write_text("".join(f"{name}\n" for name in held_out))
    print(f"classifier trained on {len(known)} images and written to {MODEL}")


if __name__ == "__main__":
    main()
