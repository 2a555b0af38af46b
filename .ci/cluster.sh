#!/usr/bin/env bash
# Runs a command with a Kubernetes cluster of its own, and takes the cluster down afterwards.
#
#   .ci/cluster.sh TOOLS COMMAND [ARGUMENT...]
#
# TOOLS is a folder with `build` (prints a folder with kubectl, helm and the Kubernetes plugin; works
# once, then finds them in its cache), `up --name N` (prints a kubeconfig's path) and `down --name N`.
set -euo pipefail

tools=$1
shift
name=sixways-$$
bin=$("$tools/build")
trap '"$tools/down" --name "$name"' EXIT
KUBECONFIG=$("$tools/up" --name "$name")
export KUBECONFIG PATH="$bin:$PATH"
"$@"
