"""Tests; a package, so that those of one directory can share what they start."""
