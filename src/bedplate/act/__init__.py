"""Change the machine: processes, files, stores. Carries plans out and decides nothing."""
