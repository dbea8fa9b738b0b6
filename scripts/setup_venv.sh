#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the virtual environment in the folder $1 with everything that the Makefile's targets use.
# Run again, it brings an old one up to date.
set -eu
venv=$1
python=${PYTHON:-python3}

fail() {
    echo "error: $1" >&2
    exit 1
}

command -v "$python" >/dev/null ||
    fail "$python is not on the PATH; Python 3.11 or later is needed (make PYTHON=...)"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or later is needed, but $python is $("$python" -V 2>&1) (make PYTHON=...)"
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$python has no venv; on Debian: apt-get install python3-venv"
command -v g++ >/dev/null ||
    fail "g++ is needed to build simulators; on Debian: apt-get install g++"

echo "setup 1/2: virtual environment $venv ($("$python" -V 2>&1))"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv" ||
    fail "the virtual environment could not be made (see above)"
echo "setup 2/2: installing the tools, about 1 GB; this takes minutes the first time ..."
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]' ||
    fail "pip could not install the packages of pyproject.toml (see above)"
echo "setup done"
