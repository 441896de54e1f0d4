#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints src/template/cases.h: upper and lower case of letters, from Python's Unicode tables."""
import sys
import unicodedata


def ranges(convert):
    """Runs of letters a fixed step apart that are converted by the same difference."""
    runs = []
    for code in range(0x110000):
        if 0xD800 <= code < 0xE000:
            continue
        other = convert(chr(code))
        if len(other) != 1 or other == chr(code):
            continue
        delta = ord(other) - code
        if runs:
            first, last, step, d = runs[-1]
            gap = code - last
            if d == delta and (gap == step or (first == last and gap in (1, 2))):
                runs[-1] = (first, code, gap, d)
                continue
        runs.append((code, code, 1, delta))
    return runs


def table(name, runs):
    print(f"static const struct case_run {name}[] = {{")
    line = "   "
    for run in runs:
        item = " {0x%X, 0x%X, %d, %d}," % run
        if len(line) + len(item) > 98:
            print(line)
            line = "   "
        line += item
    print(line)
    print("};\n")


print("""/* SPDX-License-Identifier: Apache-2.0
 * Case of letters, Unicode %s. Made by tests/template_cases.py; do not edit. */
#ifndef FTK_TEMPLATE_CASES_H
#define FTK_TEMPLATE_CASES_H

#include <stdint.h>

/* The letters first, first + step ... last become others that are `delta` away. */
struct case_run {
    uint32_t first, last;
    int step, delta;
};
""" % unicodedata.unidata_version)
table("to_upper", ranges(str.upper))
table("to_lower", ranges(str.lower))
print("""/* Letters whose upper case is several. */
static const struct {
    uint32_t code, upper[3];
} to_several[] = {""")
line = "   "
for code in range(0x110000):
    if 0xD800 <= code < 0xE000:
        continue
    upper = chr(code).upper()
    if len(upper) > 1:
        item = " {0x%X, {%s}}," % (code, ", ".join("0x%X" % ord(c) for c in upper))
        if len(line) + len(item) > 98:
            print(line)
            line = "   "
        line += item
print(line)
print("};\n\n#endif")
sys.exit(0)
