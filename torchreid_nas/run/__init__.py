"""A run: the stages of one config in one folder, series of runs, and what they report."""
