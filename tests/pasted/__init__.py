"""Texts as operators of GPU hosts post them, with invented values: inputs of tests/unit/test_pasted*.py."""
