"""The front door and an engine as they are in Debian, run for real: loopback and Unix sockets only."""
