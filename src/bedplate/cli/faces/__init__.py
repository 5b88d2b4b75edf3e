"""Faces of an audit: values in, text out. Terminal tree, terminal findings, JSON, SARIF, a page with a drawn map."""
