"""Facts of a machine: what was read of it, from where, and what could not be known. Frozen values only."""
