/* SPDX-License-Identifier: Apache-2.0
 *
 * promptids MODEL QUESTIONS N: the first N prompts of each category as token ids, for programs
 * without a tokenizer; prompts longer than MOST tokens are passed over. Goes to standard output:
 * prompts.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "prompts.h"
#include "run.h"

enum { MOST = 768 };

static size_t earlier(const prompts *p, size_t i)
{
    size_t n = 0;
    for (size_t j = 0; j < i; j++) n += strcmp(p->at[j].category, p->at[i].category) == 0;
    return n;
}

static const char usage[] = "usage: promptids MODEL QUESTIONS N > FILE.ids";

int main(int argc, char **argv)
{
    run_help(argc, argv, usage);
    if (argc != 4) run_refuse("%s", usage);
    const size_t most = (size_t)run_number("N", argv[3], 1, 1 << 20);
    ftk_model *m = run_model(argv[1]);
    prompts p;
    prompts_read(&p, argv[2], 0, MOST, m);
    char shown[256];
    const char *slash = strrchr(argv[1], '/');
    printf("# prompts in the template and the vocabulary of %s\n",
           run_shown(shown, sizeof shown, slash ? slash + 1 : argv[1]));
    for (size_t i = 0; i < p.n; i++) {
        if (earlier(&p, i) >= most) continue;
        fputs(run_shown(shown, sizeof shown, p.at[i].category), stdout);
        for (size_t t = 0; t < p.at[i].n; t++) printf(" %d", (int)p.at[i].tokens[t]);
        putchar('\n');
    }
    prompts_free(&p);
    ftk_model_free(m);
    return 0;
}
