#!/bin/sh
# Make the virtual environment VENV from the hashed lock requirements/LOCK.lock and install bedplate into it, editable.
# Installs python3-venv where it is missing and may be installed (root on Debian or Ubuntu), after saying so; for the dev lock
# also hwloc's lstopo, which the readers of recorded machines are compared with, and the programs that neighbours are made of.
# Tests say so and skip where one is missing.
set -eu
venv=$1 lock=$2
# The distribution's Python first: what a user has; then whatever python3 is on PATH.
python=/usr/bin/python3
[ -x "$python" ] || python=$(command -v python3) || { echo "error: no python3; install Python 3.11 or newer" >&2; exit 3; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: $python is older than Python 3.11; Debian 12 and newer have it" >&2; exit 3; }
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing python3-venv" >&2
        apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3-venv >&2
    else
        echo "error: Python's venv module is missing; run: sudo apt install python3-venv" >&2; exit 3
    fi
fi
if [ "$lock" = dev ]; then
    missing=
    for pair in lstopo-no-graphics:hwloc-nox stress-ng:stress-ng fio:fio iperf3:iperf3; do
        command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
    done
    if [ -z "$missing" ]; then
        :
    elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing$missing" >&2
        # shellcheck disable=SC2086  (a list of packages)
        { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing; } >&2 ||
            echo "setup: not all of$missing could be installed; the tests that need them will be skipped" >&2
    else
        echo "setup: the tests that need$missing will be skipped; to run them: sudo apt install$missing" >&2
    fi
fi
[ -x "$venv/bin/python" ] && "$venv/bin/python" -c '' 2>/dev/null || "$python" -m venv --clear "$venv"
echo "setup: Python packages of requirements/$lock.lock" >&2
"$venv/bin/python" -m pip --quiet --disable-pip-version-check install --require-hashes -r "requirements/$lock.lock"
"$venv/bin/python" -m pip --quiet --disable-pip-version-check install --no-deps --no-build-isolation -e .
touch "$venv/.setup"
[ "$lock" = host ] || touch "$venv/.setup-$lock"
