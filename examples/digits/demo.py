"""Make the images, train the classifier, score every image with `daskscore run`, print the accuracy."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import evaluate
import make_images
import train

HERE = Path(__file__).parent


def main() -> None:
    make_images.main()
    train.main()
    daskscore = Path(sysconfig.get_path("scripts"), "daskscore")
    scored = subprocess.run([daskscore, "run", HERE / "job.yml", "--overwrite"], check=False)
    if scored.returncode:
        raise SystemExit(scored.returncode)
    evaluate.main()


if __name__ == "__main__":
    main()
