#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A file includes only from storeys below its own, and what it calls is defined there, too: storeys.sh ROOT [OBJECTS]
# OBJECTS: a file that names the object files of a build, one a line. Without it only includes are looked at.
set -eu
cd "$1"
fail=0
symbols=
if [ $# -gt 1 ]; then
    symbols=$(mktemp)
    trap 'rm -f "$symbols"' EXIT
    # Lines of: def or use, folder, symbol, file, whether the public header has it
    xargs readelf -sW < "$2" | awk '
        $1 == "File:" { file = $2; sub(/.*\.dir\/(\.\/)?/, "", file); folder = file; sub(/\/[^\/]*$/, "", folder) }
        ($5 == "GLOBAL" || $5 == "WEAK") && $8 ~ /^ftk_/ {
            print($7 == "UND" ? "use" : "def", folder, $8, file, $6 == "DEFAULT" ? "public" : "")
        }' > "$symbols"
    grep -q '^def drafters ' "$symbols" || { echo "$2 names no objects of ours"; exit 1; }
fi
# forbid FOLDER PATTERN [CALLS]: no file in FOLDER includes a path that matches PATTERN, and none calls what is
# defined in such a folder, but for functions whose names match CALLS; "public": for those of the public header
forbid() {
    # by find: grep that misses one of its files says so by its status, whatever else it finds
    if find "$1" -maxdepth 1 -regex '.*\.\(c\|h\|cc\|cu\)' -exec grep -nE "^#include \"($2)" {} + | grep .; then
        echo "$1 must not include $2"
        fail=1
    fi
    [ -n "$symbols" ] || return 0
    awk -v folder="$1" -v pattern="^(src/)?($2)" -v calls="${3:-none}" '
        $1 == "def" && $2 "/" ~ pattern && !(calls == "public" && $5) && $3 !~ "^" calls { where[$3] = $4 }
        $1 == "use" && $2 == folder { uses[$3] = uses[$3] " " $4 }
        END {
            for (symbol in uses)
                if (symbol in where) {
                    print(folder " must not call " symbol " of " where[symbol] ":" uses[symbol])
                    bad = 1
                }
            exit bad
        }' "$symbols" || fail=1
}
forbid src/base 'kernels/|template/|model/|diffusion/|engine/|cli/|grammar/|serve/|drafters/|verifiers/'
forbid kernels 'template/|model/|diffusion/|engine/|cli/|grammar/|serve/|drafters/|verifiers/'
forbid kernels/cuda 'template/|model/|diffusion/|engine/|cli/|grammar/|serve/|drafters/|verifiers/'
forbid src/template 'kernels/|model/|diffusion/|engine/|cli/|grammar/|serve/|drafters/|verifiers/'
forbid src/model 'diffusion/|engine/|cli/|grammar/|serve/|drafters/|verifiers/'
forbid src/diffusion 'template/|engine/|cli/|grammar/|serve/|drafters/|verifiers/'
forbid src/diffusion/caches 'template/|engine/|cli/|grammar/|serve/|drafters/|verifiers/|kernels/'
# a family looks into its own file
forbid drafters 'template/|model/|engine/|cli/|grammar/|serve/|verifiers/|kernels/' ftk_gguf_find
forbid verifiers 'template/|model/|engine/|cli/|grammar/|serve/|drafters/|kernels/'
forbid src/engine 'cli/|grammar/|serve/|template/|diffusion/'
forbid src/cli 'base/|template/|model/|diffusion/|engine/|grammar/|serve/|drafters/|verifiers/|kernels/' public
forbid src/grammar 'base/|template/|model/|diffusion/|engine/|serve/|drafters/|verifiers/|kernels/' public
forbid src/serve 'base/|template/|model/|diffusion/|engine/|drafters/|verifiers/|kernels/' public
if grep -nE '^#include "(base|kernels|template|model|engine|drafters|verifiers|tests)/' bench/specbench*.[ch] \
    bench/questions.[ch] bench/gnuplot.[ch]; then
    echo "specbench must know foretoken.h alone"
    fail=1
fi
forbid testkit 'cli/|grammar/|serve/|bench/|tests/'
# Programs do not reach into tests/, neither by a path nor by a folder to look for headers in.
headers=$(ls tests/*.h tests/*/*.h | sed 's:.*/::' | paste -sd '|')
if grep -nE "#include \"(([^\"]*/)?tests/|([^\"]*/)?($headers)\")" bench/*.[ch] testkit/*.[ch] drafters/train/*.[ch] ||
    sed -n '/^# .* the library$/,/^if(FTK_TESTS)$/p' CMakeLists.txt | grep -n 'tests/'; then
    echo "what is no test must not reach into tests: what both need stands in testkit/"
    fail=1
fi
if grep -nE '\b(abort|exit|printf|fprintf|puts|getenv|signal)\(' src/base/*.[ch] src/template/*.[ch] \
    src/model/*.[ch] src/model/*.cc src/diffusion/*.[ch] src/diffusion/caches/*.[ch] src/engine/*.[ch] kernels/*.[ch] \
    kernels/cuda/*.cu kernels/cuda/*.[ch] drafters/*.[ch] verifiers/*.[ch]; then
    echo "the library must not print, exit or look at the environment"
    fail=1
fi
exit $fail
