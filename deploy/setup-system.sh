#!/bin/sh
# Install what the environment needs from the system, and only what is missing:
#
#     deploy/setup-system.sh           everything, for development
#     deploy/setup-system.sh worker    what a worker needs; without the token that tests sign with (SoftHSM)
#
# The libraries that lay out the PDF, on Debian the Chinese font of the reports (57 MB; macOS has one) and the part of
# Python that makes virtual environments. Without the right to install, say what to run.
set -eu

part=${1:-everything}
case $part in
    everything) again="make setup" ;;
    worker) again="deploy/setup-python.sh worker" ;;
    *)
        echo "deploy/setup-system.sh knows worker, not $part" >&2
        exit 1
        ;;
esac
python=$("$(dirname "$0")/setup-find-python.sh")
missing=""

has_library() {
    "$python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$1" 2>/dev/null
}

needs() { # library, package
    has_library "$1" || missing="$missing $2"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

may_install() {
    [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}

give_up() {
    echo "Missing on this system:$missing. Install with: $1 && $again" >&2
    exit 1
}

debian() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        missing="$missing $("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    needs libpango-1.0.so.0 libpango-1.0-0
    needs libpangoft2-1.0.so.0 libpangoft2-1.0-0
    needs libharfbuzz-subset.so.0 libharfbuzz-subset0
    [ -n "$(find /usr/share/fonts /usr/local/share/fonts -name 'NotoSansCJK-Regular*' 2>/dev/null)" ] ||
        missing="$missing fonts-noto-cjk"
    [ "$part" = worker ] || [ -n "$(find /usr/lib/softhsm -name libsofthsm2.so 2>/dev/null)" ] ||
        missing="$missing softhsm2"
    [ -n "$missing" ] || return 0
    may_install || give_up "sudo apt-get install --yes$missing"
    echo "Installing:$missing"
    # shellcheck disable=SC2086 # package names, one word each
    apt install --yes --no-install-recommends $missing >/dev/null 2>&1 || {
        # The list of packages may be missing, as in a fresh image, or too old.
        apt update
        apt install --yes --no-install-recommends $missing >/dev/null
    }
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get --quiet=2 "$@"
}

macos() {
    command -v brew >/dev/null || {
        missing=" pango"
        give_up "brew install pango (Homebrew: https://brew.sh)"
    }
    for formula in pango $([ "$part" = worker ] || echo softhsm); do
        brew list "$formula" >/dev/null 2>&1 || brew install --quiet "$formula"
    done
}

other() {
    needs libpango-1.0.so.0 pango
    needs libpangoft2-1.0.so.0 pangoft2
    needs libharfbuzz-subset.so.0 harfbuzz-subset
    [ -z "$missing" ] || give_up "your package manager"
}

if [ "$(uname -s)" = Darwin ]; then
    macos
elif command -v apt-get >/dev/null; then
    debian
else
    other
fi
