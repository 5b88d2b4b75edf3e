"""Kinds of things that tuning can change, one class in one file each: kind.py has the interface, registry.py the list."""
