#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every global symbol the library defines carries the prefix: symbols.sh SHARED STATIC
# And it calls nothing that takes memory behind the host: only mem.c knows where memory comes from.
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
# strerror() of numbers that exist and opendir() are left: a folder cannot be read without.
hidden='malloc|calloc|realloc|reallocarray|memalign|posix_memalign|aligned_alloc|free'
hidden="$hidden|qsort|qsort_r|tsearch|hcreate|str(n)?dup|v?asprintf|fopen|fdopen|fmemopen|open_memstream|tmpfile"
hidden="$hidden|getline|getdelim|scandir|nftw|glob|realpath|setlocale|setenv|putenv"
bad=$(nm -A -u "$2" | awk '{ print $NF, $1 }' | grep -E "^($hidden) " |
    grep -vE '^(aligned_alloc|free) [^ ]*:mem\.c\.o:$| [^ ]*(emulator|runtime|blas)\.[^ ]*:$' || true)
if [ -n "$bad" ]; then
    echo "the library calls what takes memory behind the host:"
    echo "$bad"
    exit 1
fi
n=$(nm -D --defined-only "$1" | grep -c ' T ftk_')
echo "$n exported functions, all with the prefix"
[ "$n" -gt 0 ]
