"""pgreact beside its peers, each bench in one run; see README.md."""
