#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every global symbol the library defines carries the prefix: symbols.sh SHARED STATIC
# nvcc names what launches a kernel __device_stub__. C++ symbols of templates (weak, V and W) belong to the standard library, not to us.
set -eu
bad=$(nm -D --defined-only "$1" | awk '$2 ~ /^[TDBRG]$/ && $3 !~ /^ftk_/ { print $3 }')
if [ -n "$bad" ]; then
    echo "the shared library exports names without ftk_:"
    echo "$bad"
    exit 1
fi
bad=$(nm --defined-only "$2" | awk '$2 ~ /^[TDBRGC]$/ && $3 !~ /^(ftk_|__odr_asan|_ZN|_Z[0-9]+__device_stub__)/ { print $3 }')
if [ -n "$bad" ]; then
    echo "the static library defines global names without ftk_:"
    echo "$bad"
    exit 1
fi
n=$(nm -D --defined-only "$1" | grep -c ' T ftk_')
echo "$n exported functions, all with the prefix"
[ "$n" -gt 0 ]
