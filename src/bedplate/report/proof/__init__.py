"""Render what a proof showed: text for a terminal, one page with charts, and the schema of its JSON."""
