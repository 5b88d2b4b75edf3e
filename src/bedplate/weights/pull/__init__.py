"""Models from where they are: which files of a hub or an address make a model, and what their beginnings say of it."""
