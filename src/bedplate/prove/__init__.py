"""What a stack or a change is worth on this host: known answers, workloads, statistics."""
