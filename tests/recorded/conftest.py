"""Keep pytest's search for doctests away from the scripts: the suite runs without their libraries."""

collect_ignore = ["make.py", "librosa_mel.py"]
