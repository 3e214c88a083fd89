"""Jobs that are run while an adversary acts, and what must hold after each; `python -m benchmarks.torture --help`."""
