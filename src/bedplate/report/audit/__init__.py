"""Render the audit of a machine: tree, list, JSON, SARIF, and one page with a map of the machine."""
