#!/usr/bin/env bash
# What builds, runs and takes images where there is no Docker: Debian's podman and buildah, a base
# image, a registry on this machine. As root, on Debian 12; quick when all is there.
#
#   eval "$(.ci/images.sh up STANDINS)"    STANDINS: the folder with base-image and registry
#   .ci/images.sh down STANDINS
#
# SIXWAYS_IMAGES names the folder of the image store, which is kept (default: in the user's cache).
set -euo pipefail

action=$1 standins=$2
cache=${SIXWAYS_IMAGES:-${XDG_CACHE_HOME:-$HOME/.cache}/sixways-images}
registry=$cache/registry
export DOCKER_BUILD_STANDIN_CACHE=$cache
if [ ${#cache} -gt 38 ]; then
    # podman's clean-up refuses a longer run root, and every container's end then takes 20 seconds.
    echo "$cache is too long; name a folder of at most 38 characters in SIXWAYS_IMAGES" >&2
    exit 1
fi

if [ "$action" = down ]; then
    "$standins/registry" down --data "$registry" --purge
    exit
fi

missing=()
for tool in buildah skopeo docker-registry debootstrap podman runc iptables; do
    # Not every PATH of root's names /usr/sbin.
    PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || missing+=("$tool")
done
[ -x /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
if [ ${#missing[@]} -gt 0 ]; then
    {
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
            "${missing[@]}"
    } >&2
fi

mkdir -p "$cache/podman"
PATH=$PATH:/usr/sbin:/sbin "$standins/base-image" --name python:3.12-slim-bookworm >&2

# podman looks into the store that the docker-build plugin's stand-in builds in.
cat >"$cache/podman/storage.conf" <<EOF
[storage]
driver = "overlay"
graphroot = "$cache/storage/root"
runroot = "$cache/storage/run"
EOF
# No systemd and no raising of limits: cgroups by themselves, the machine's own limits. What pip
# needs to reach its index in a build is mounted, where this machine has it.
mounts=""
for file in /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    [ ! -e "$file" ] || mounts+="\"$file:$file:ro\", "
done
cat >"$cache/podman/containers.conf" <<EOF
[containers]
default_ulimits = []
volumes = [$mounts]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
EOF
cat <<EOF
export DOCKER_BUILD_STANDIN_CACHE='$cache'
export CONTAINERS_CONF='$cache/podman/containers.conf'
export CONTAINERS_STORAGE_CONF='$cache/podman/storage.conf'
export BUILDAH_ISOLATION=chroot
EOF
"$standins/registry" up --data "$registry"
