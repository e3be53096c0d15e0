"""Products and sums of linear layers, and where a model has such."""
