#!/bin/sh
# Make build/oracle, an environment with the peers; torch, transformers and the rest are those of the given Python's.
# Their declared dependencies are left out: most are for training and plotting, and they would take minutes to install.
set -eu

cd "$(dirname "$0")/../.."
python=${1:-.venv/bin/python}
packages=$("$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
made="$packages $(cat tests/oracle/requirements.txt)"
[ "$(cat build/oracle/ready 2>/dev/null)" = "$made" ] && exit

rm -rf build/oracle
"$python" -m venv --without-pip build/oracle
"$python" -m pip --python build/oracle/bin/python --disable-pip-version-check install --quiet --no-deps --no-input \
    --only-binary=:all: --requirement tests/oracle/requirements.txt
own=$(build/oracle/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")
echo "$packages" > "$own/audited.pth"
echo "$made" > build/oracle/ready
