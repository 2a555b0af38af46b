"""Way `local`, the embedded default: a model server on this machine. No account, no Docker.

`endpoint.py` is the resource for your program, `process.py` starts and stops the server.
"""
