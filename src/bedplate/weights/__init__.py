"""Model files: headers of their formats, the store of this host, random models, and the known-answer model."""
