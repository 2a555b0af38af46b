"""The programs of the peers; each runs in an environment of its own (`requirements.txt`)."""
