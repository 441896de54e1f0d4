#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A file includes only from storeys below its own: storeys.sh ROOT
set -eu
cd "$1"
fail=0
# forbid FOLDER PATTERN: no file in FOLDER includes a path that matches PATTERN
forbid() {
    if grep -nE "^#include \"($2)" "$1"/*.[ch] "$1"/*.cc 2>/dev/null; then
        echo "$1 must not include $2"
        fail=1
    fi
}
forbid src/base 'kernels/|template/|model/|diffusion/|engine/|cli/|grammar/|serve/|drafters/|verifiers/'
forbid kernels 'template/|model/|diffusion/|engine/|cli/|grammar/|serve/|drafters/|verifiers/'
forbid src/template 'kernels/|model/|diffusion/|engine/|cli/|grammar/|serve/|drafters/|verifiers/'
forbid src/model 'diffusion/|engine/|cli/|grammar/|serve/|drafters/|verifiers/'
forbid src/diffusion 'template/|engine/|cli/|grammar/|serve/|drafters/|verifiers/'
forbid src/diffusion/caches 'template/|engine/|cli/|grammar/|serve/|drafters/|verifiers/|kernels/'
forbid drafters 'template/|model/|engine/|cli/|grammar/|serve/|verifiers/|kernels/'
forbid verifiers 'template/|model/|engine/|cli/|grammar/|serve/|drafters/|kernels/'
forbid src/engine 'cli/|grammar/|serve/|template/|diffusion/'
forbid src/cli 'base/|template/|model/|diffusion/|engine/|grammar/|serve/|drafters/|verifiers/|kernels/'
forbid src/grammar 'base/|template/|model/|diffusion/|engine/|serve/|drafters/|verifiers/|kernels/'
forbid src/serve 'base/|template/|model/|diffusion/|engine/|drafters/|verifiers/|kernels/'
if grep -nE '^#include "(base|kernels|template|model|engine|drafters|verifiers|tests)/' bench/specbench*.[ch] \
    bench/questions.[ch] bench/gnuplot.[ch]; then
    echo "specbench must know foretoken.h alone"
    fail=1
fi
if grep -nE '\b(abort|exit|printf|fprintf|puts|getenv|signal)\(' src/base/*.c src/template/*.c src/model/*.c \
    src/diffusion/*.c src/diffusion/caches/*.c src/engine/*.c kernels/*.c drafters/*.c verifiers/*.c; then
    echo "the library must not print, exit or look at the environment"
    fail=1
fi
exit $fail
