"""Orders over HTTP, and what is done about them in the background."""
