"""machine.toml: its tables, the files that it becomes, and applying it as a transaction that is killed at each call."""
