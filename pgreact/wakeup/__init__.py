"""Wake-ups: a commit becomes a signal."""
