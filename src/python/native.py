# SPDX-License-Identifier: Apache-2.0
"""Writes the C source of foretoken._native: native.py HEADER COMPILER OUT

The declarations are those of foretoken.h as the compiler's preprocessor leaves them, so nothing is typed twice; the
compiler that builds the module compares them with the header itself.
"""

import re
import subprocess
import sys
from pathlib import Path

from cffi import FFI

# What the library calls: Python functions of foretoken/_calls.py.
HOOKS = """
extern "Python" void foretoken_log(void *ctx, ftk_log_level level, const char *line);
extern "Python" void foretoken_progress(void *ctx, uint64_t done, uint64_t total);
extern "Python" void foretoken_mask(void *ctx, const int32_t *tokens, size_t n, uint32_t *allowed);
"""


def declarations(header: str, compiler: str) -> str:
    """The header's types, constants and functions, without what it includes and without inline functions."""
    alone = re.sub(r"^#include .*$", "", header, flags=re.M)
    plain = subprocess.run(
        [compiler, "-E", "-P", "-U__GNUC__", "-x", "c", "-"],
        input=alone,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return re.sub(r"static inline [^{]*\{[^}]*\}", "", plain)


def main() -> None:
    header, compiler, out = sys.argv[1:]
    ffi = FFI()
    ffi.cdef(declarations(Path(header).read_text(encoding="utf-8"), compiler) + HOOKS)
    ffi.set_source("foretoken._native", '#include "foretoken.h"')
    ffi.emit_c_code(out)


main()
