"""Bundles on EC2: a load balancer over machines that all start alike.

`endpoint.py` is the component, `problems.py` checks its inputs; `boot.py` writes what a machine does
when it starts, `role.py` what it may do, and `balancer.py` what stands in front.
"""
