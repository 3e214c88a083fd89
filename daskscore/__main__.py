"""`python -m daskscore`, the same as `daskscore`."""

from daskscore.cli import main

if __name__ == "__main__":
    main()
