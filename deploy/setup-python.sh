#!/bin/sh
# Make the virtual environment .venv with exactly the versions of requirements.lock, and this project in it.
# Wheels only: nothing is compiled. pip's own configuration decides where they come from.
set -eu

cd "$(dirname "$0")/.."
python=$(deploy/setup-find-python.sh)
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    rm -rf .venv
    echo "Making the environment .venv with $("$python" --version)"
    "$python" -m venv .venv
fi
echo "Installing the locked dependencies (1.2 to 1.5 GB; several GB where PyTorch comes with CUDA)"
.venv/bin/python -m pip install --quiet --only-binary=:all: --requirement requirements.lock
# The build tool is one of the locked packages, so that nothing is fetched for the build.
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
