"""What machine.toml means: for each of its tables, how it is checked, which files it becomes, what must restart. Pure."""
