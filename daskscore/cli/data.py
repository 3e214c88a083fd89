"""`daskscore data`: data by name and version."""

from __future__ import annotations

from daskscore.cli.assets import group

HELP = """Data by name and version.

A job names it as `inputs: azureml:NAME:VERSION`, or azureml:NAME@latest.

\b
Examples:
  daskscore data create --name iris --path data/iris/
  daskscore data create --name iris --path s3://bucket/iris/ --type uri_folder
  daskscore data show --name iris --version 2
  daskscore run --entry-script score.py --input azureml:iris@latest --output out/
"""

data = group("data", HELP, "uri_file, uri_folder, mltable or tabular (default: what the path looks like).")
