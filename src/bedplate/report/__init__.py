"""Render values, never print them: an audit as a tree, a list, JSON, SARIF or a page with a map; a proof; a plan."""
