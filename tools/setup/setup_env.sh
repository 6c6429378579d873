#!/bin/sh
# Finds a Python that will do and builds .venv with it: see setup_env.py.
# usage: [PYTHON=python3.12] sh tools/setup/setup_env.sh
set -u

USABLE='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'
COMPLETE='import ensurepip, venv' # Debian ships these apart, in python3-venv

main() {
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3 python3.13 python3.12 python3.11 python3.10 python
    fi
    for name in "$@"; do
        "$name" -c "$USABLE" 2>/dev/null || continue
        if "$name" -c "$COMPLETE" 2>/dev/null; then
            exec "$name" "$(dirname "$0")/setup_env.py"
        fi
        without_venv=${without_venv:-$name}
    done
    if [ -n "${without_venv:-}" ]; then
        package=$("$without_venv" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        fail "$without_venv has no venv module; install it, on Debian and Ubuntu with: apt install $package"
    fi
    found=$("${PYTHON:-python3}" -c 'import sys; print("is Python %d.%d" % sys.version_info[:2])' 2>/dev/null)
    fail "${PYTHON:-python3} ${found:-was not found}; Python 3.10 to 3.13 is needed (choose another with PYTHON=...)"
}

fail() {
    echo "error: $1" >&2
    exit 2
}

main
