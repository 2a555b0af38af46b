"""What computes, behind one interface; one file an engine."""
