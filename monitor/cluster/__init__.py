"""A site beyond one machine, on Ray: the parts of the daemon, placed on several nodes."""
