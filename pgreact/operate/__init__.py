"""What the people who run it look at."""
