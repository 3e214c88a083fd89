"""Job files of every known form → keys of JobConfig, and what could not be carried over.

Runs in the user's process, called by the command line and the API before a job is validated. Pure translation: reads
the YAML and JSON files that are named, and nothing else.
"""

from __future__ import annotations

from daskscore.jobfiles.interface import Environment, Form, Ignored, Model, Translated, in_one_warning
from daskscore.jobfiles.steps import Step, steps
from daskscore.jobfiles.translation import translate

__all__ = ["Environment", "Form", "Ignored", "Model", "Step", "Translated", "in_one_warning", "steps", "translate"]
