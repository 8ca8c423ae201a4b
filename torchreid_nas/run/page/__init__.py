"""The page of a run: what was trained, what it reached, how it came about, and where it is right and wrong."""
