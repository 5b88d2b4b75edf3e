"""Recorded real machines, which are not part of this repository, read and compared with what other programs say of them."""
