#!/bin/sh
# Make the virtual environment .venv with exactly the versions of requirements.lock, and this project in it:
#
#     deploy/setup-python.sh          everything, for development
#     deploy/setup-python.sh api      what the API, the clock and migrations need; no PyTorch
#     deploy/setup-python.sh worker   the same and what a worker needs
#
# Wheels only: nothing is compiled. pip's own configuration decides where they come from.
set -eu

cd "$(dirname "$0")/.."
part=${1:-everything}
case $part in
    everything) size="2.8 GB; several GB where PyTorch comes with CUDA" ;;
    api) size="0.7 GB" ;;
    worker) size="1.9 GB; several GB where PyTorch comes with CUDA" ;;
    *)
        echo "deploy/setup-python.sh knows api and worker, not $part" >&2
        exit 1
        ;;
esac
python=$(deploy/setup-find-python.sh)
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    rm -rf .venv
    echo "Making the environment .venv with $("$python" --version)"
    "$python" -m venv .venv
fi

install() {
    .venv/bin/python -m pip install --quiet --only-binary=:all: "$@"
}

echo "Installing the locked dependencies of $part ($size)"
# The build tool is one of the locked packages, so that nothing is fetched for the build.
case $part in
    everything) install --requirement requirements.lock ;;
    *) install --constraint requirements.lock setuptools ;;
esac
case $part in
    everything) install --no-deps --no-build-isolation --editable . ;;
    api) install --constraint requirements.lock --no-build-isolation --editable . ;;
    worker) install --constraint requirements.lock --no-build-isolation --editable ".[worker,report,mlflow]" ;;
esac
