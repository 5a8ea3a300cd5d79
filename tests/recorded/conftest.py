"""Keep pytest's search for doctests away from the script: the suite runs without its libraries."""

collect_ignore = ["make.py"]
