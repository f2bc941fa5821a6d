"""`python -m sorted_tuning` is the same program as `sorted-tuning`."""

from sorted_tuning.cli import main

main()
