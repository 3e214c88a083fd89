"""Write the 1,797 digits that come with scikit-learn as 8x8 grey PNG images, and what they show to labels.csv."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

HERE = Path(__file__).parent
GREY_LEVELS = 15
"""scikit-learn's pixels are 0 to 16; times 15 they fill a byte."""


def main() -> None:
    digits = load_digits()
    folder = HERE / "images"
    folder.mkdir(exist_ok=True)
    with open(HERE / "labels.csv", "w", newline="") as file:
        labels = csv.writer(file)
        labels.writerow(["name", "label"])
        for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            name = f"{number:04d}.png"
            Image.fromarray((pixels * GREY_LEVELS).astype(np.uint8)).save(folder / name)
            labels.writerow([name, label])
    print(f"{len(digits.target)} images written to {folder}")


if __name__ == "__main__":
    main()
