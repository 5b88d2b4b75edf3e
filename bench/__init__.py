"""What `make bench` measures: bedplate against an ordinary Debian of the same release, and its own builds."""
