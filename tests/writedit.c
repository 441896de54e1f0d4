/* SPDX-License-Identifier: Apache-2.0
 * Writes a small diffusion transformer for the tests of the command line: writedit FILE
 * latent|pixel */
#include <stdio.h>
#include <string.h>

#include "ditmodel.h"

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: writedit FILE latent|pixel\n");
        return 2;
    }
    dm_model m = dm_small();
    if (strcmp(argv[2], "pixel") == 0) {
        m.pixel = true;
        m.channels = m.out_channels = 1;
        m.size = 8;
        m.damp = 1;
        m.l2c_steps = 10;
    }
    return dm_save(&m, argv[1]) ? 0 : 1;
}
