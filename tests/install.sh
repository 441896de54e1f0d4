#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs, moves what was installed, and builds and runs a program on it in the three ways there are:
# install.sh BUILD CC CMAKE WORK MODEL
set -eu
build=$1 cc=$2 cmake=$3 work=$4 model=$5
rm -rf "$work"
mkdir -p "$work/program"
# Models that were fetched, or that somebody keeps there, are not installed.
kept=$(dirname "$model")/kept-by-somebody-$$.gguf
trap 'rm -f "$kept"' EXIT
: > "$kept"
"$cmake" --install "$build" --prefix "$work/there" > /dev/null
mv "$work/there" "$work/here"

cat > "$work/program/main.c" <<'END'
#include <foretoken.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    ftk_model *m = NULL;
    if (argc != 2 || ftk_model_load(&m, argv[1], &cfg) != FTK_OK) return 1;
    ftk_model_info info;
    ftk_model_get_info(m, &info);
    printf("%s\n", info.name);
    ftk_model_free(m);
    return 0;
}
END
cat > "$work/program/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(program LANGUAGES C)
find_package(foretoken 0.1 REQUIRED)
add_executable(program main.c)
target_link_libraries(program PRIVATE foretoken::foretoken)
END

PKG_CONFIG_PATH=$(dirname "$(find "$work/here" -name foretoken.pc)")
export PKG_CONFIG_PATH
main=$work/program/main.c

runs() {
    name=$("$1" "$model")
    [ "$name" = "Foretoken demo" ] || { echo "$1: the model is \"$name\""; exit 1; }
    echo "$2: works"
}

lib=$(pkg-config --variable=libdir foretoken)
# shellcheck disable=SC2046
"$cc" "$main" $(pkg-config --cflags --libs foretoken) -Wl,-rpath,"$lib" -o "$work/shared"
runs "$work/shared" "pkg-config, shared"
# shellcheck disable=SC2046
"$cc" "$main" $(pkg-config --static --cflags --libs foretoken | sed 's/-lforetoken/-l:libforetoken.a/') \
    -o "$work/static"
! ldd "$work/static" | grep -q foretoken
runs "$work/static" "pkg-config, static"
"$cmake" -S "$work/program" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$work/here" \
    -DCMAKE_C_COMPILER="$cc" > /dev/null
"$cmake" --build "$work/cmake" > /dev/null
runs "$work/cmake/program" "find_package"
[ "$(cd / && "$work/here/bin/foretoken" generate -n 1 -p "Once upon a" | wc -l)" -ge 1 ]
echo "the installed program: works"

# Which model it takes where none is named: files that are none show whom it looked for.
models=$work/here/share/foretoken/models
foretoken=$work/here/bin/foretoken
for file in "$models"/*; do
    case ${file##*/} in
        README.md | foretoken-demo-*.gguf | *.drafter.gguf | *.lora.gguf) ;;
        *) echo "$file should not be installed"; exit 1 ;;
    esac
done
takes() { # FILE OR NOTHING ARGUMENTS...
    wanted=$1
    shift
    "$foretoken" "$@" < /dev/null > /dev/null 2> "$work/err" || true
    [ "$(cat "$work/err")" = "$wanted" ] || { echo "foretoken $*: \"$(cat "$work/err")\", wanted \"$wanted\""; exit 1; }
}
said="foretoken: the model is $work/here/bin/../share/foretoken/models"
other="another one with -m MODEL"
takes "$said/${model##*/}; $other" chat
takes "" generate -p a -n 1
echo "no model" > "$models/gemma-3-270m-Q4_K_M.gguf"
takes "$said/${model##*/}; $other" chat
takes "" generate --chat -p a -n 1
broken=$("$foretoken" inspect "$models/gemma-3-270m-Q4_K_M.gguf" 2>&1 || true)
broken=${broken#*.gguf: }
base="foretoken: $work/here/bin/../share/foretoken/models"
takes "$base/gemma-3-270m-Q4_K_M.gguf: $broken" generate -p a -n 1
smollm2=SmolLM2-135M-Instruct.Q4_1.gguf
echo "no model" > "$models/$smollm2"
takes "$base/$smollm2: $broken" generate -p a -n 1
takes "$said/$smollm2; $other
$base/$smollm2: $broken" chat
takes "" chat --demo
takes "" generate --demo -p a -n 1
echo "the model that is taken: the best"
rm -rf "$work"
