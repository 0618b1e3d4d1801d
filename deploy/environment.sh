# Sourced by run, test and bench: the virtual environment, made on first use and kept up to date with the constraints.
# shellcheck shell=bash

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

find_python() {
    local name
    for name in "${PYTHON:-}" python3.13 python3.12 python3.11 python3; do
        if [ -n "$name" ] && command -v "$name" >/dev/null &&
            "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "Python 3.11 or newer with venv is needed (Debian: apt-get install python3-venv)" >&2
    return 2
}

# prepare_environment EXTRAS: installs the node with these extras into .venv unless that has been done already
prepare_environment() {
    local extras="$1" python stamp wanted
    stamp=".venv/.installed-$extras"
    wanted="$(cat setup.cfg pyproject.toml deploy/constraints.txt | sha256sum) $root"
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        return
    fi
    python="$(find_python)"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    echo "installing the node into .venv (the first time takes some minutes)" >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint deploy/constraints.txt setuptools wheel
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation \
        --constraint deploy/constraints.txt --editable ".[$extras]"
    printf '%s' "$wanted" >"$stamp"
}
