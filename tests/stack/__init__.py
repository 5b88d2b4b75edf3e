"""The installed stack of whole hosts: trees as Debian writes them, and drifts planted into them."""
