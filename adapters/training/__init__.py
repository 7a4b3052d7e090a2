"""Training: the only place where torch lives."""
