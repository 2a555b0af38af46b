"""What runs on real Linux hosts: systemd, Nginx and the package manager of a Debian 12."""
