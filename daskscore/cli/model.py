"""`daskscore model`: models by name and version."""

from __future__ import annotations

from daskscore.cli.assets import group

HELP = """Models by name and version.

\b
Examples:
  daskscore model create --name digits --path model/
  daskscore model list
  daskscore model archive --name digits --version 1
"""

model = group("model", HELP, "custom_model, mlflow_model or triton_model (default: custom_model).")
