#!/usr/bin/env bash
# What the tiers `host` and `engine` need: Debian's tools (a browser and Prometheus among them), and
# two Debian 12 to boot, made once (two minutes, 700 MB): the bare one that a cloud hands out, and one
# as somebody's own server is, with sshd.
# Nothing is done where all of it is there. Run it as root.
set -euo pipefail

base=${SIXWAYS_HOST_BASE:-$HOME/.cache/sixways/hosts/debian-12.tar}
own=${base%.tar}-ssh.tar
packages=()
for pair in systemd-nspawn:systemd-container nginx:nginx-light debootstrap:debootstrap \
    iptables:iptables ip:iproute2 prometheus:prometheus chromium:chromium; do
    PATH="$PATH:/usr/sbin" command -v "${pair%%:*}" >/dev/null || packages+=("${pair##*:}")
done
if [ "${#packages[@]}" -gt 0 ]; then
    apt-get -q update
    # Their services would listen on this machine; the tests start what they need.
    policy=/usr/sbin/policy-rc.d
    made=
    if [ ! -e "$policy" ]; then
        made=$policy
        trap 'rm -f "$made"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "${packages[@]}"
    [ -z "$made" ] || rm -f "$made"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ ! -s "$base" ]; then
    mkdir -p "$(dirname "$base")"
    # What a cloud image has; everything else is for the user data to install.
    debootstrap --variant=minbase \
        --include=systemd,systemd-sysv,dbus,iproute2,ca-certificates,procps,libpam-systemd \
        bookworm "$work/system"
    rm -f "$work"/system/var/cache/apt/archives/*.deb
    tar -C "$work/system" -cf "$base.new" .
    mv "$base.new" "$base"
fi

if [ ! -s "$own" ]; then
    rm -rf "$work/system"
    mkdir "$work/system"
    tar -C "$work/system" -xf "$base"
    cp /etc/resolv.conf "$work/system/etc/resolv.conf"
    inside() { DEBIAN_FRONTEND=noninteractive chroot "$work/system" "$@"; }
    inside apt-get -q update
    inside apt-get -q -y install --no-install-recommends \
        openssh-server sudo python3 python3-venv nginx-light nftables curl openssl less
    # Who may become root, and who may not; each machine gets keys of its own.
    inside useradd --create-home --shell /bin/bash deploy
    inside useradd --create-home --shell /bin/bash guest
    echo 'deploy ALL=(ALL) NOPASSWD: ALL' >"$work/system/etc/sudoers.d/deploy"
    rm -rf "$work"/system/etc/ssh/ssh_host_* "$work"/system/var/lib/apt/lists/*
    inside apt-get clean
    tar -C "$work/system" -cf "$own.new" .
    mv "$own.new" "$own"
fi
# Let's Encrypt's own small ACME server, for real certificates in a test.
tools=$HOME/.cache/sixways/tools
if [ ! -x "$tools/pebble" ]; then
    GOBIN="$tools" go install github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.1
fi
echo "hosts: $base $own"
