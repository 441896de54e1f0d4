/* SPDX-License-Identifier: Apache-2.0
 * foretoken tokenize: text to token ids, or back. */
#include <stdlib.h>
#include <string.h>

#include "common.h"

static int encode(const cli_world *w, const cli_options *o, const cli_bytes *text)
{
    int32_t *tokens;
    size_t n;
    const unsigned flags = o->special ? FTK_TOK_SPECIAL : 0;
    const ftk_err err = cli_tokenize(w, text->p, text->n, flags, &tokens, &n);
    if (err != FTK_OK) {
        free(tokens);
        return cli_fail(err, "the text could not be tokenized");
    }
    cli_bytes line = {0};
    for (size_t i = 0; i < n; i++) {
        char id[16];
        const int len = snprintf(id, sizeof id, "%s%d", i ? " " : "", (int)tokens[i]);
        cli_bytes_add(&line, id, (size_t)len);
    }
    cli_bytes_add(&line, "\n", 1);
    cli_out(line.p, line.n);
    cli_bytes_free(&line);
    free(tokens);
    return cli_out_status();
}

/* The ids in the text, which are set apart by white space. */
static int parse_ids(const cli_world *w, const cli_bytes *text, int32_t *tokens, size_t *n)
{
    static const char blank[] = " \t\n\v\f\r";
    const char *const end = text->p + text->n;
    for (const char *p = text->p; p < end;) {
        if (*p && strchr(blank, *p)) {
            p++;
            continue;
        }
        const size_t len = strcspn(p, blank);
        if (len == 0) {
            cli_say("a NUL byte is not a token id; give whole numbers with blanks between them");
            return CLI_FAILED;
        }
        char *stop;
        const long v = strtol(p, &stop, 10);
        if (stop != p + len) {
            cli_say("\"%.*s\" is not a token id; give whole numbers with blanks between them",
                    len > 40 ? 40 : (int)len, p);
            return CLI_FAILED;
        }
        if (v < 0 || v >= w->info.n_vocab) {
            cli_say("%.*s is not a token id of this model; they go from 0 to %d",
                    len > 40 ? 40 : (int)len, p, w->info.n_vocab - 1);
            return CLI_FAILED;
        }
        tokens[(*n)++] = (int32_t)v;
        p += len;
    }
    return CLI_DONE;
}

static int decode(const cli_world *w, const cli_options *o, const cli_bytes *text)
{
    int32_t *tokens = cli_array(NULL, text->n, sizeof *tokens);
    size_t n = 0;
    char *out = NULL;
    int status = parse_ids(w, text, tokens, &n);
    if (status == CLI_DONE) {
        const unsigned flags = o->special ? FTK_TOK_SPECIAL : 0;
        size_t size = 0;
        ftk_err err = ftk_detokenize(w->model, tokens, n, flags, NULL, 0, &size);
        const size_t cap = size;
        out = cli_array(NULL, cap, 1);
        if (err == FTK_ERR_SPACE) err = ftk_detokenize(w->model, tokens, n, flags, out, cap, &size);
        if (err == FTK_OK) {
            cli_out_model(out, size);
            status = cli_out_status();
        } else {
            status = cli_fail(err, "the tokens could not be turned into text");
        }
    }
    free(out);
    free(tokens);
    return status;
}

int cmd_tokenize(const cli_options *o)
{
    cli_bytes text = {0};
    cli_bytes_add(&text, "", 0);
    cli_world w = {0};
    int status = cli_bytes_read(&text, "-") ? CLI_DONE : CLI_FAILED;
    if (status == CLI_DONE) status = cli_world_open_model(&w, o);
    if (status == CLI_DONE) status = o->decode ? decode(&w, o, &text) : encode(&w, o, &text);
    cli_world_close(&w);
    cli_bytes_free(&text);
    return status;
}
