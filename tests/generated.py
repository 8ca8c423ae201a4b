"""Settings of generated data sets that are drawn in a moment."""

SMALL = {"identities": 6, "images": 2, "height": 48, "width": 24, "trials": 2}
