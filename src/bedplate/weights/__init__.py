"""Model files: the headers of their formats, the store of this host, models with random weights, and the known-answer model."""
