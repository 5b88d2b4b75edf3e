"""The door to a machine: "/", a recorded directory or an archive, and the bounds on what a stranger wrote."""
