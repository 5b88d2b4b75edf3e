#!/bin/sh
# Make the virtual environment VENV from the hashed lock requirements/LOCK.lock and install bedplate into it, editable.
# Installs python3-venv where it is missing and may be installed (root on Debian or Ubuntu), after saying so; for the dev lock
# also hwloc's lstopo, which the readers of recorded machines are compared with, the programs that neighbours are made of, and
# what `bedplate up` would install to build and boot images.
#
# May be stopped at any moment, by kill -9 too: while the environment is changed, VENV.unfinished stands beside it, and the next
# run makes it again from nothing. pip would not: to it, a package whose files are half there is installed.
set -eu
venv=$1 lock=$2
# One at a time; also after a kill -9 of this script alone, since pip, which goes on then, has the lock as well. The file stays:
# removed, it could be locked twice. Opened for writing: NFS gives no other lock (flock(2), "NFS details").
if command -v flock >/dev/null; then
    # In a subshell: a redirection that fails ends a shell at `:` at once (POSIX, special built-ins).
    ( : >>"$venv.lock" ) 2>/dev/null || { echo "error: $venv.lock cannot be written; set up a checkout that you may write to" >&2; exit 3; }
    exec 9>>"$venv.lock"
    locked=0
    flock -n -E 75 9 || locked=$?
    case $locked in
    0) ;;
    75)
        echo "setup: another setup of this checkout runs; waiting for it" >&2
        flock 9
        ;;
    *) echo "setup: $venv.lock cannot be locked on this file system; run no second setup of this checkout meanwhile" >&2 ;;
    esac
fi
apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update && { apt-get -qq install -y --no-install-recommends "$@" || {
        dpkg --configure -a && apt-get -qq install -y --no-install-recommends "$@"; }; } # what a stopped dpkg left
}
# The distribution's Python first: what a user has; then whatever python3 is on PATH. PYTHON=... takes another.
python=${PYTHON:-/usr/bin/python3}
[ -x "$python" ] || python=$(command -v python3) || { echo "error: no python3; install Python 3.11 or newer" >&2; exit 3; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: $python is older than Python 3.11; Debian 12 and newer have it" >&2; exit 3; }
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing python3-venv" >&2
        apt_install python3-venv >&2
    else
        echo "error: Python's venv module is missing; run: sudo apt install python3-venv" >&2; exit 3
    fi
fi
# install_or_say WHAT PACKAGE...: install packages, or say what happens to the tests that need them: WHAT.
install_or_say() {
    fate=$1
    shift
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing $*" >&2
        apt_install "$@" >&2 || echo "setup: not all of $* could be installed; the tests that need them will $fate" >&2
    else
        echo "setup: the tests that need $* will $fate; to run them: sudo apt install $*" >&2
    fi
}
if [ "$lock" = dev ]; then
    missing=
    for pair in lstopo-no-graphics:hwloc-nox stress-ng:stress-ng fio:fio iperf3:iperf3 shellcheck:shellcheck; do
        command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
    done
    # shellcheck disable=SC2086 # a list of packages
    [ -z "$missing" ] || install_or_say "be skipped" $missing
fi
unfinished=$venv.unfinished
again=
if [ -e "$unfinished" ]; then
    again=1
    echo "setup: the last setup was stopped; making $venv again" >&2
elif ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    again=1
fi
: >"$unfinished"
rm -f "$venv/.setup" "$venv/.setup-dev"
[ -z "$again" ] || "$python" -m venv --clear "$venv"
echo "setup: Python packages of requirements/$lock.lock" >&2
"$venv/bin/python" -m pip --quiet --disable-pip-version-check install --require-hashes -r "requirements/$lock.lock"
"$venv/bin/python" -m pip --quiet --disable-pip-version-check install --no-deps --no-build-isolation -e .
if [ "$lock" = dev ]; then
    missing=$("$venv/bin/python" scripts/host_packages.py)
    # shellcheck disable=SC2086 # a list of packages
    [ -z "$missing" ] || install_or_say fail $missing
fi
touch "$venv/.setup"
[ "$lock" = host ] || touch "$venv/.setup-$lock"
rm -f "$unfinished"
