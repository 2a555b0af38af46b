"""Bundles on EC2: a load balancer over machines that all start alike.

`endpoint.py` is the component, `args.py` its inputs, `problems.py` checks them; `boot.py` writes
what a machine does when it starts, `role.py` what it may do, `balancer.py` makes what stands in
front and `group.py` the machines.
"""
