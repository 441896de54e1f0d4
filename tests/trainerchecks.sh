# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What tests of trainers begin with, sourced by them: trainerchecks.sh REQUIREMENTS PACKAGE...
# A folder of their own, which goes with them, and how they judge; FTK_PYTHON names the Python (python3) in $python.
python=${FTK_PYTHON:-python3}
missing() { # REQUIREMENTS PACKAGE...
    local packages="${*:2}"
    "$python" -c "import ${packages// /, }" 2> /dev/null && return 1
    echo "SKIPPED: $python lacks one of $packages: pip install -r $1"
}
if missing "$@"; then exit 77; fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 1
n_failed=0

check() { # NAME PATTERN COMMAND...: succeeds, and says something that matches
    local name=$1 pattern=$2
    shift 2
    if "$@" > out 2>&1 && grep -Eq -- "$pattern" out; then
        echo "ok   $name"
    else
        n_failed=$((n_failed + 1))
        echo "not ok   $name: wanted $pattern"
        sed 's/^/    /' out
    fi
}

refused() { # LINE COMMAND...: fails with this one line
    local line=$1
    shift
    if ! "$@" > /dev/null 2> out && [ "$(wc -l < out)" = 1 ] && grep -Fq -- "$line" out; then
        echo "ok   refused: $line"
    else
        n_failed=$((n_failed + 1))
        echo "not ok   refused: $line"
        sed 's/^/    /' out
    fi
}
