"""What processes have in common: the clock, logs, signals, sockets, files, other processes."""
