#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The Python package on the demo model: python.sh PYTHON PACKAGE PROGRAM SANITIZERS
# PACKAGE is the folder that the built package lies in. FTK_PYTHON names another Python than CMake found.
set -eu
python=${FTK_PYTHON:-${1:-python3}} package=$2 sanitizers=$4
export FORETOKEN=$3 PYTHONPATH=$package PYTHONDONTWRITEBYTECODE=1
if [ ! -e "$package/foretoken/_native.abi3.so" ]; then
    echo "SKIPPED: the Python package was not built: it needs Python's headers and cffi (python3-dev python3-cffi)"
    exit 77
fi
if ! "$python" -c 'import cffi, numpy, pytest' 2> /dev/null; then
    echo "SKIPPED: $python has no cffi, numpy or pytest (python3-cffi python3-numpy python3-pytest)"
    exit 77
fi
if [ -n "$sanitizers" ]; then
    # Python itself was built without them, and what it never frees is not ours.
    LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)"
    export LD_PRELOAD ASAN_OPTIONS=detect_leaks=0
fi
exec "$python" -m pytest -q -p no:cacheprovider "$(dirname "$(readlink -f "$0")")/python"
