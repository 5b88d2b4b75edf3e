"""The system around the kernel: distribution, its services and upgrades, a booted image, a build host."""
