#!/usr/bin/env bash
# What the tier `host` needs: Debian's tools, and a Debian 12 to boot, made once (a minute, 250 MB).
# Nothing is done where all of it is there. Run it as root.
set -euo pipefail

base=${SIXWAYS_HOST_BASE:-$HOME/.cache/sixways/hosts/debian-12.tar}
packages=()
for pair in systemd-nspawn:systemd-container nginx:nginx-light debootstrap:debootstrap \
    iptables:iptables ip:iproute2; do
    PATH="$PATH:/usr/sbin" command -v "${pair%%:*}" >/dev/null || packages+=("${pair##*:}")
done
if [ "${#packages[@]}" -gt 0 ]; then
    apt-get -q update
    DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "${packages[@]}"
fi

if [ ! -s "$base" ]; then
    mkdir -p "$(dirname "$base")"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # What a cloud image has; everything else is for the user data to install.
    debootstrap --variant=minbase \
        --include=systemd,systemd-sysv,dbus,iproute2,ca-certificates,procps,libpam-systemd \
        bookworm "$work/system"
    rm -f "$work"/system/var/cache/apt/archives/*.deb
    tar -C "$work/system" -cf "$base.new" .
    mv "$base.new" "$base"
fi
echo "hosts: $base"
