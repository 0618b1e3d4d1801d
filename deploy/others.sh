# Sourced by test and bench after environment.sh: environments for programs of others, beside ours and never in it.
# shellcheck shell=bash

# install_others NAME: what deploy/NAME-constraints.txt lists, and nothing that it pulls in, into .cache/NAME
install_others() {
    local name="$1" folder="$root/.cache/$1" listed="deploy/$1-constraints.txt" wanted
    wanted="$(sha256sum "$listed")"
    if [ -f "$folder/.installed" ] && [ "$(cat "$folder/.installed")" = "$wanted" ]; then
        return
    fi
    echo "installing $name into .cache/$name" >&2
    mkdir -p "$root/.cache"
    "$(find_python)" -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$listed"
    printf '%s' "$wanted" >"$folder/.installed"
}
