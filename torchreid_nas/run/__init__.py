"""A run: the stages of one config in one folder, and what they report."""
