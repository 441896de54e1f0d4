/* SPDX-License-Identifier: Apache-2.0
 * foretoken perplexity: how well a model predicts a text. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

typedef struct tally {
    size_t n;    /* tokens predicted */
    double nats; /* minus the sum of their log-probabilities */
} tally;

/* The window moves on by half its size. Of the later windows only the new half counts, so every
 * token in it has at least half a window before it: score(window) - score(its old half). BOS, where
 * the model has one, stands before every window. tokens[-1] must be writable. */
static ftk_err score(const cli_world *w, int32_t *tokens, size_t n, size_t window, tally *t)
{
    const bool bos = w->info.add_bos && w->info.bos >= 0;
    const size_t size = window - (bos ? 1 : 0), half = size / 2;
    size_t done = 0; /* tokens that are counted, or have nothing before them */
    for (size_t start = 0; done < n; start = done - half) {
        const size_t end = n - start < size ? n : start + size;
        int32_t *const first = tokens + start - (bos ? 1 : 0);
        const int32_t saved = *first;
        if (bos) *first = w->info.bos;
        const size_t skip = bos ? 0 : 1; /* the first token has nothing before it */
        double all = 0, old = 0;
        ftk_err err = ftk_score(w->engine, first, (size_t)(tokens + end - first), &all);
        if (err == FTK_OK && done > start)
            err = ftk_score(w->engine, first, (size_t)(tokens + done - first), &old);
        if (bos) *first = saved;
        if (err != FTK_OK) return err;
        t->nats -= all - old;
        t->n += end - done - (done == 0 ? skip : 0);
        done = end;
    }
    return FTK_OK;
}

/* The way of llama.cpp's perplexity program: BOS, where the model has one, stands before the
 * text; chunks side by side, what is left over not looked at; BOS takes the place of a chunk's
 * first token; of each chunk the second half counts. tokens[-1] must be writable. */
static ftk_err score_chunks(const cli_world *w, int32_t *tokens, size_t n, size_t size, tally *t)
{
    const bool bos = w->info.add_bos && w->info.bos >= 0;
    const size_t known = size / 2 + 1;
    tokens -= bos;
    n += bos;
    for (size_t at = 0; at + size <= n; at += size) {
        double all, first;
        if (bos) tokens[at] = w->info.bos;
        ftk_err err = ftk_score(w->engine, tokens + at, size, &all);
        if (err == FTK_OK) err = ftk_score(w->engine, tokens + at, known, &first);
        if (err != FTK_OK) return err;
        t->nats -= all - first;
        t->n += size - known;
    }
    return FTK_OK;
}

static void print(const cli_options *o, const tally *t, size_t bytes, size_t window)
{
    const double mean = t->nats / (double)t->n;
    const double bits = t->nats / log(2) / (double)bytes; /* of chunks only a part is counted */
    if (o->json) {
        json_t *j = json_object();
        json_object_set_new(j, "tokens", json_integer((json_int_t)t->n));
        json_object_set_new(j, "bytes", json_integer((json_int_t)bytes));
        json_object_set_new(j, "window", json_integer((json_int_t)window));
        json_object_set_new(j, "nats_per_token", cli_json_real(mean));
        json_object_set_new(j, "perplexity", cli_json_real(exp(mean)));
        if (!o->chunks) json_object_set_new(j, "bits_per_byte", cli_json_real(bits));
        cli_out_json(j);
        return;
    }
    char text[256];
    const int n = snprintf(text, sizeof text,
                           "tokens          %zu\nnats per token  %.4f\nperplexity      %.4f\n",
                           t->n, mean, exp(mean));
    cli_out(text, (size_t)n);
    if (o->chunks) return;
    const int m = snprintf(text, sizeof text, "bits per byte   %.4f\n", bits);
    cli_out(text, (size_t)m);
}

static int measure(cli_world *w, const cli_options *o, const cli_bytes *text)
{
    int status = cli_world_open_model(w, o);
    if (status != CLI_DONE) return status;
    const int most = w->info.n_ctx_train < 2048 ? w->info.n_ctx_train : 2048;
    const int usual = o->chunks && most > 512 ? 512 : most;
    const int window = o->ctx ? (int)o->ctx : usual;
    status = cli_world_open_engine(w, o, window, false);
    if (status != CLI_DONE) return status;

    int32_t *tokens;
    size_t n;
    ftk_err err = cli_tokenize(w, text->p, text->n, 0, &tokens, &n);
    tally t = {0};
    if (err == FTK_OK) {
        tokens = cli_array(tokens, n + 1, sizeof *tokens);
        memmove(tokens + 1, tokens, n * sizeof *tokens);
        err = (o->chunks ? score_chunks : score)(w, tokens + 1, n, (size_t)window, &t);
    }
    free(tokens);
    if (err != FTK_OK) return cli_fail(err, "the text could not be scored");
    if (t.n == 0) {
        cli_say("%s is too short: there is no token to predict", o->file);
        return CLI_FAILED;
    }
    print(o, &t, text->n, (size_t)window);
    return cli_out_status();
}

int cmd_perplexity(const cli_options *o)
{
    if (!o->file) return cli_say_usage(o->command, "there is no text; give one with -f FILE");
    if (o->ctx && o->ctx < 2)
        return cli_say_usage(o->command, "-c: \"%d\" leaves no token to predict; give 2 or more",
                             (int)o->ctx);
    cli_bytes text = {0};
    cli_bytes_add(&text, "", 0);
    cli_world w = {0};
    int status = cli_bytes_read(&text, o->file) ? CLI_DONE : CLI_FAILED;
    if (status == CLI_DONE) status = measure(&w, o, &text);
    cli_world_close(&w);
    cli_bytes_free(&text);
    return status;
}
