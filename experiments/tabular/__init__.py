"""Small tables with few positives: what does a loss change that a threshold does not?"""
