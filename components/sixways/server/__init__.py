"""A Linux host that serves bundles: the server under systemd, Nginx in front of it.

`files.py` writes what such a host needs from the templates in `files/`: the systemd unit, the Nginx
site, and the server's configuration. Every way that ends on a host with systemd uses the same ones.
"""
