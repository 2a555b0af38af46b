"""Way `local`, the embedded default: a model server on this machine. No account, no Docker.

`endpoint.py` is the resource for your program, `process.py` starts and stops the server.
`container.py` runs the server's image in a Docker engine instead, for those who have one.
"""
