"""One service level objective, and what watches it on every way."""
