"""Secrets in command lines and texts, found by name, by program and by shape. Pure: readers and recordings both use it."""
