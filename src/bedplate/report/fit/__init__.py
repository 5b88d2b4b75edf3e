"""Render whether a model fits: a table with bars of the memory, JSON, and one page with the same bars as a picture."""
