/* SPDX-License-Identifier: Apache-2.0
 * A LoRA adapter of random numbers, for the tests of the programs: writelora MODEL OUT */
#include <stdio.h>

#include "lorafiles.h"

int main(int argc, char **argv)
{
    const lf_adapter a = {.rank = 4, .alpha = 8, .seed = 5, .type = FTK_TYPE_F16};
    if (argc == 3 && lf_write(argv[2], argv[1], &a)) return 0;
    fprintf(stderr, "usage: writelora MODEL OUT\n");
    return 1;
}
