"""What the kernel says in /proc and /sys: CPUs, memory, NUMA, buses, block and network devices, cgroups, processes."""
