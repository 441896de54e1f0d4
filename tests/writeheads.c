/* SPDX-License-Identifier: Apache-2.0
 *
 * The small model, a smaller one and the heads of everydrafter.h as files, for programs to take:
 * writeheads NAME. Their names begin with NAME, beside the test programs. */
#include "everydrafter.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    if (argc == 2 && ed_write(argv[1]) == 0) return 0;
    fprintf(stderr, argc == 2 ? "they cannot be written\n" : "usage: writeheads NAME\n");
    return 1;
}
