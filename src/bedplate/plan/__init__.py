"""Decide: facts, wishes and policy become plans. Pure: no files, clock, processes or randomness."""
