#!/usr/bin/env bash
# Makes what the other scripts need; each part is skipped when it is there already.
#   scripts/setup.sh                 .venv with ckpt and its test tools
#   scripts/setup.sh compiler        gcc, if there is none
#   scripts/setup.sh packages NAME…  Debian packages (as root; otherwise says which are missing and exits 3)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*" >&2; }

# The newest interpreter is not the best one: Debian's own can be run by every user of the machine.
find_python() {
    local python
    for python in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if "$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$python"
            return
        fi
    done
    return 1
}

make_venv() {
    local wanted python pip=(.venv/bin/python -m pip --disable-pip-version-check)
    exec 9<pyproject.toml
    flock 9 # scripts/demo and scripts/test may start at the same time
    wanted=$(sha256sum pyproject.toml | cut -d' ' -f1)
    if [ "$(cat .venv/ckpt-stamp 2>/dev/null)" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null; then
        return
    fi
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        if ! python=$(find_python); then
            install_packages python3 python3-venv
            python=$(find_python) || { say "setup: there is no Python 3.11 or newer with venv"; exit 3; }
        fi
        say "setup: making .venv with $python"
        "$python" -m venv --clear .venv
    fi
    say "setup: installing ckpt and its test tools into .venv"
    # A machine's own pip settings may print warnings by the page; they matter only when it fails.
    if ! "${pip[@]}" install --quiet --progress-bar off -e '.[test]' >.venv/ckpt-install.log 2>&1; then
        cat .venv/ckpt-install.log >&2
        exit 1
    fi
    printf '%s\n' "$wanted" >.venv/ckpt-stamp
}

install_packages() {
    local name missing=()
    exec 8<scripts/setup.sh
    flock 8 # two guests may be started at the same time
    for name in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        say "setup: missing packages: ${missing[*]}"
        say "hint: as root: apt-get update && apt-get install ${missing[*]}"
        exit 3
    fi
    say "setup: installing ${missing[*]}"
    local log
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    if ! { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
        tail -n 40 "$log" >&2
        rm -f "$log"
        exit 3
    fi
    rm -f "$log"
}

case "${1:-venv}" in
    venv) make_venv ;;
    compiler) command -v gcc >/dev/null || install_packages gcc libc6-dev ;;
    packages) shift; install_packages "$@" ;;
    *) say "usage: scripts/setup.sh [venv | compiler | packages NAME…]"; exit 2 ;;
esac
