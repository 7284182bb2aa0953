"""How good a prediction is, against what, and whether that is real."""
