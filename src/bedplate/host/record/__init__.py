"""A recording of a machine: what the readers asked, without what readers do not use and what identifies people."""
