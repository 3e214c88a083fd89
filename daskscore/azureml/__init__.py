"""ParallelRunConfig, ParallelRunStep and parallel_run_function: the reference's Python, run here.

Names, parameters and the words of their errors are the reference's; no package of it is needed. Where it wants an
object of its own (an environment, a cluster, a data set), a path or an object that has one will do.
"""

from __future__ import annotations

from daskscore.azureml.parameters import PipelineParameter
from daskscore.azureml.run_config import ParallelRunConfig
from daskscore.azureml.run_function import Input, Output, Parallel, RetrySettings, RunFunction, parallel_run_function
from daskscore.azureml.run_step import ParallelRunStep

__all__ = [
    "Input",
    "Output",
    "Parallel",
    "ParallelRunConfig",
    "ParallelRunStep",
    "PipelineParameter",
    "RetrySettings",
    "RunFunction",
    "parallel_run_function",
]
