"""Rules: what should hold of a machine, and what is concluded where it does not. Pure."""
