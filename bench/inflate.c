/* SPDX-License-Identifier: Apache-2.0
 *
 * inflate: writes a small llama model into a larger shape, so that every pass costs what the shape
 * costs while the text stays that of the small model.
 *
 * The residual stream of the large model holds the small one's, and zeros behind it. Heads and
 * feed-forward units that are new put nothing into the stream, and the new layers multiply by norm
 * weights of 0. An RMS norm takes the mean over more numbers: eps becomes smaller and the norm
 * weights larger by what that changes. Is the wide stream 4^k times the small one that factor is a
 * power of two, so no result changes in any bit; for other whole multiples the stream is held
 * several times so that what remains is 4^k, and still no result changes but for the last bit of a
 * double inside the norm. Otherwise results differ by float rounding.
 *
 * Weights that meet nothing but zeros are random, not 0, so that most of the bits are as in a real
 * model; in the old layers, what would bring something new into the stream has to be 0.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inflate.h"
#include "run.h"

/* ---- the shape */

/* Read by one token: all but the embeddings. */
static double weights_read(const shape *s, int head_dim)
{
    const double heads = (double)s->heads + s->heads_kv;
    return s->dim * (s->layers * (2 * heads * head_dim + 3.0 * s->ffn) + s->vocab);
}

/* A named shape's heads may have another size; and it reads a larger output matrix, for which the
 * feed-forward part makes up. */
static void fit_shape(shape *s, const ftk_hparams *hp)
{
    const int hd = hp->head_dim, old = s->dim / s->heads;
    if (s->heads * old % hd != 0 || s->heads_kv * old % hd != 0)
        run_refuse("that shape's heads, %d of %d, cannot be cut into heads of %d", s->heads, old,
                   hd);
    s->heads = s->heads * old / hd;
    s->heads_kv = s->heads_kv * old / hd;
    const double more = (double)(s->vocab - hp->n_vocab) / (3.0 * s->layers);
    s->ffn = (int)lrint((s->ffn + more) / 256) * 256;
    s->vocab = hp->n_vocab;
}

static void default_to(int *n, int small)
{
    if (*n == 0) *n = small;
}

static void check_shape(const shape *s, const ftk_hparams *hp)
{
    const struct {
        const char *option;
        int n, least;
    } sizes[] = {
        {"--dim", s->dim, hp->n_embd},     {"--layers", s->layers, hp->n_layer},
        {"--heads", s->heads, hp->n_head}, {"--kv-heads", s->heads_kv, hp->n_head_kv},
        {"--ffn", s->ffn, hp->n_ff},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i].n < sizes[i].least)
            run_refuse("%s %d: the small model has %d already", sizes[i].option, sizes[i].n,
                       sizes[i].least);
    if (s->heads % s->heads_kv != 0)
        run_refuse("%d heads are no multiple of %d kv heads", s->heads, s->heads_kv);
}

/* Copies of the stream that leave a power of 4, for a whole multiple; else one. */
static void choose_copies(job *j)
{
    const int d = j->small->hp.n_embd;
    j->copies = 1;
    if (j->s.dim % d == 0)
        for (j->copies = j->s.dim / d; j->copies % 4 == 0;) j->copies /= 4;
    j->factor = (double)j->copies * d / j->s.dim;
}

/* ---- the command line */

static void help(void)
{
    printf(
        "inflate [options] SMALL.gguf LARGE.gguf [SMALL.drafter.gguf LARGE.drafter.gguf]...\n"
        "\n"
        "The small model's text at a large one's cost; and what its trained drafters, s4c, firp\n"
        "and dash, draft, at the cost of drafters of the large one.\n"
        "\n"
        "  --shape NAME    the bytes one token reads are about those of this shape; as the\n"
        "                  vocabulary and so the output matrix stay small, the feed-forward\n"
        "                  part grows instead\n"
        "  --dim N --layers N --heads N --kv-heads N --ffn N\n"
        "                  numbers of one's own; otherwise those of the small model. Heads keep\n"
        "                  the small model's size\n\n"
        "Vocabulary and weight types stay those of the small files; requantize changes\n"
        "types before. Where dim is a whole multiple of the small model's the results are the\n"
        "same to the bit, otherwise up to rounding. Drafts are the same up to rounding.\n\n");
    shape_print_names(stdout);
}

static ftk_model *load_small(const char *path)
{
    ftk_model *m = inflate_load(path);
    ftk_gguf_value v;
    if (!ftk_gguf_find(m->file, "general.architecture", &v) || v.s.n != strlen("llama") ||
        memcmp(v.s.p, "llama", v.s.n) != 0)
        run_die("%s: only models of the architecture llama can be inflated", path);
    inflate_check_known(m);
    return m;
}

int main(int argc, char **argv)
{
    shape given = {0};
    bool by_name = false;
    int i = 1;
    shape numbers = {0}; /* those given one by one, which count before those of a name */
    for (; i < argc && argv[i][0] == '-'; i += 2) {
        if (strcmp(argv[i], "--help") == 0) {
            help();
            return 0;
        }
        if (i + 1 >= argc)
            run_refuse("%s needs a value, or is unknown: see inflate --help", argv[i]);
        const bool name = strcmp(argv[i], "--shape") == 0;
        by_name |= name;
        if (!shape_option(name ? &given : &numbers, argv[i], argv[i + 1]) || numbers.vocab ||
            numbers.head_dim)
            run_refuse("%s is unknown: see inflate --help", argv[i]);
    }
    if (argc - i < 2)
        run_refuse("usage: inflate [options] SMALL.gguf LARGE.gguf [SMALL.drafter.gguf "
                   "LARGE.drafter.gguf]...; inflate --help tells more");
    if ((argc - i) % 2 != 0) run_refuse("%s: give the name of its large copy too", argv[argc - 1]);
    const int n_drafters = (argc - i) / 2 - 1;
    char *const *const drafters = argv + i + 2;

    const ftk_model *small = load_small(argv[i]);
    const ftk_hparams *hp = &small->hp;
    const shape wanted = given;
    if (by_name) fit_shape(&given, hp);
    job j = {.small = small, .s = numbers};
    default_to(&j.s.dim, by_name ? given.dim : hp->n_embd);
    default_to(&j.s.layers, by_name ? given.layers : hp->n_layer);
    default_to(&j.s.heads, by_name ? given.heads : hp->n_head);
    default_to(&j.s.heads_kv, by_name ? given.heads_kv : hp->n_head_kv);
    default_to(&j.s.ffn, by_name ? given.ffn : hp->n_ff);
    j.s.vocab = hp->n_vocab;
    check_shape(&j.s, hp);
    choose_copies(&j);
    inflate_lay_out(&j);

    inflate_check_drafters(&j, n_drafters, drafters);
    modelfile_init(&j.m);
    inflate_put_keys(&j);
    inflate_put_tensors(&j, true);
    modelfile_begin(&j.m, argv[i + 1]);
    inflate_put_tensors(&j, false);
    const uint64_t bytes = modelfile_end(&j.m);
    char path[256];
    printf("%s: dim %d, layers %d, heads %d on %d of %d, ffn %d, vocabulary %d; %llu MiB\n",
           run_shown(path, sizeof path, argv[i + 1]), j.s.dim, j.s.layers, j.s.heads, j.s.heads_kv,
           hp->head_dim, j.s.ffn, j.s.vocab, (unsigned long long)(bytes >> 20));
    printf("one token reads %.1f million weights", weights_read(&j.s, hp->head_dim) / 1e6);
    if (by_name)
        printf("; that shape with its own vocabulary %.1f",
               weights_read(&wanted, wanted.dim / wanted.heads) / 1e6);
    printf("\n%s\n", j.s.dim % hp->n_embd == 0 ? "results are those of the small model to the bit"
                                               : "results are those of the small model up to "
                                                 "rounding: dim is no multiple of the small one's");
    inflate_write_drafters(&j, argv[i + 1], n_drafters, drafters);
    for (int a = 0; a < N_AXES; a++) free(j.axes[a].from);
    ftk_model_free((ftk_model *)small);
    return 0;
}
