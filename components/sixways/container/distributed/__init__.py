"""What `DistributedModel` is made of: its inputs, their checks, and the pods.

`files/` is mounted into vLLM's pods: the gate that asks for a key, and the Ray Serve application.
`needs/` is a chart of no objects: it asks the cluster whether it knows the kind that is needed.
"""
