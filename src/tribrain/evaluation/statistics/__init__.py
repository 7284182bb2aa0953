"""Statistics of predictions: nulls, sign flips, spins, corrections and bootstraps."""
