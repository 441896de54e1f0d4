/* SPDX-License-Identifier: Apache-2.0
 * writearch NAME FILE: one of the small models of archmodels.h, for tests that read files.
 * writearch --parts N FILE STEM: a model file in N parts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archmodels.h"

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "--parts") == 0)
        return gw_save_parts(argv[3], argv[4], atoi(argv[2])) ? 0 : 1;
    const am_model *m = argc == 3 ? am_find(argv[1]) : NULL;
    if (!m) {
        fprintf(stderr, "usage: writearch (NAME FILE | --parts N FILE STEM); names are:");
        for (int i = 0; i < am_n_models; i++) fprintf(stderr, " %s", am_models[i].name);
        fprintf(stderr, "\n");
        return 2;
    }
    gw w;
    gw_init(&w);
    am_write(&w, m);
    gw_bytes file = gw_finish(&w);
    const bool saved = gw_save(argv[2], file.p, file.n);
    free(file.p);
    gw_free(&w);
    if (!saved) perror(argv[2]);
    return saved ? 0 : 1;
}
