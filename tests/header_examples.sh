#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Compiles and links every example in the public headers: header_examples.sh CC INCLUDE LIBDIR WORK SANITIZE
set -eu
cc=$1 include=$2 lib=$3 work=$4 sanitize=$5
for header in foretoken.h foretoken_diffusion.h; do
    awk -v out="$work/example_" -v header="$header" '
    /^ \*     example: / { name = $3; file = out name ".c"; n++
        print "#include \"" header "\"\nint main(void)\n{" > file; next }
    name && /^ \*     end of example/ { print "    return 0;\n}" > file; close(file); name = ""; next }
    name { sub(/^ \*/, ""); print > file }
    END { exit n == 0 }' "$include/$header"
done
for f in "$work"/example_*.c; do
    "$cc" -std=c11 -Wall -Wextra -Wno-unused-variable -Werror ${sanitize:+-fsanitize=$sanitize} \
        -I "$include" "$f" -L "$lib" -lforetoken -Wl,-rpath,"$lib" -o "${f%.c}"
    echo "compiled $(basename "$f")"
done
