"""`make bench`: measures on this machine; every figure comes from the run that prints it.

One file a question. Contenders take turns in one run (A B A B …), so that a machine whose speed
drifts is fair to all; quote medians and ratios.
"""
