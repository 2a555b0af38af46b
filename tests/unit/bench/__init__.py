"""The measurements of `make bench`: what they compute, start, send and draw."""
