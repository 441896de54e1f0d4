#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# No line of C is longer than 100 columns, but for tables of text and figures: columns.sh ROOT
set -euo pipefail
cd "$1"
find src kernels drafters verifiers bench testkit tests \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cc' \) \
    ! -name 'templatecases.h' ! -name '*figures.h' -print0 | LC_ALL=C.UTF-8 xargs -0 awk '
    length > 100 { print FILENAME ":" FNR ": " length " columns"; bad = 1 }
    { lines++ }
    END { if (!lines) print "no lines were found"; exit bad || !lines }'
