"""What the environment says of an MPI launcher: standard library only, as the command line asks before all else."""

from __future__ import annotations

import os
from collections.abc import Mapping

RANKS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # Open MPI
    ("PMI_RANK", "PMI_SIZE"),  # MPICH, Intel MPI
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),  # MVAPICH
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),  # srun --mpi=pmix, whatever the MPI
)


def rank(environment: Mapping[str, str] = os.environ) -> int | None:
    """The number of this process among those that mpirun has started; None where it has not."""
    for number, size in RANKS:
        if environment.get(number, "").isdigit() and size in environment:
            return int(environment[number])
    return None
