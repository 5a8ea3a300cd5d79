"""Keep pytest from searching the scripts for doctests: the suite runs without their libraries."""

collect_ignore = ["make.py", "librosa_mel.py"]
