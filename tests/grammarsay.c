/* SPDX-License-Identifier: Apache-2.0
 * Answers to a JSON schema, made by chance, and whether texts are some:
 *   grammarsay SCHEMA.json N SEED    N answers, a line each
 *   grammarsay SCHEMA.json           "yes" or "no" for each line of standard input */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grammarwalks.h"

static grammar *open_schema(const char *path)
{
    json_error_t why;
    grammar_error e;
    json_t *schema = json_load_file(path, JSON_DECODE_ANY, &why);
    if (!schema) {
        fprintf(stderr, "%s: %s\n", path, why.text);
        exit(2);
    }
    grammar *g = grammar_new(NULL, &(grammar_piece){"", schema, ""}, 1, "", 1, &e);
    json_decref(schema);
    if (g) return g;
    printf("%s: %s\n", e.path, e.message);
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 2 && argc != 4) {
        fprintf(stderr, "give a schema, or a schema, a number and a seed\n");
        return 2;
    }
    grammar *g = open_schema(argv[1]);
    uint64_t seed = argc == 4 ? strtoull(argv[3], NULL, 10) : 0;
    char *line = NULL;
    size_t cap = 0;
    for (long n = argc == 4 ? atol(argv[2]) : 0; n > 0; n--) {
        char *text = grammar_say(g, &seed);
        if (text) printf("%s\n", text);
        free(text);
    }
    while (argc == 2 && getline(&line, &cap, stdin) > 0) {
        line[strcspn(line, "\n")] = 0;
        puts(grammar_takes(g, line) ? "yes" : "no");
    }
    free(line);
    grammar_free(g);
    return 0;
}
