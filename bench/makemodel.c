/* SPDX-License-Identifier: Apache-2.0
 *
 * makemodel: a llama model of any shape with seeded random weights, for measuring what a shape
 * costs. It loads and runs like any other, and says nothing that makes sense.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "modelfile.h"
#include "run.h"
#include "shape.h"
#include "weights.h"

typedef struct {
    shape s;
    const weight_type *type;
    const char *path;
    uint64_t seed;
    int context;
} job;

/* ---- the vocabulary */

/* <unk> <s> </s>, the bytes, the space, the characters of ASCII; then made-up pieces of letters,
 * each two shorter ones joined, as the merges of SentencePiece need it. */
enum { SPECIALS = 3, SPACE = SPECIALS + 256, NORMAL = SPACE + 1 + ('~' - '!' + 1), PIECE = 8 };
enum { LETTERS = 26, PAIRS = LETTERS * LETTERS, WORDS = PAIRS * PAIRS };
#define SPACE_MARK "\xE2\x96\x81"

/* The n-th made-up piece: a letter with a space before it, two letters without and with, then four
 * letters, which come in a mixed order. */
static void make_piece(int n, char *out)
{
    const char *space = "";
    char letters[5] = "";
    if (n < LETTERS) {
        space = SPACE_MARK;
        letters[0] = (char)('a' + n);
    } else if (n < LETTERS + 2 * PAIRS) {
        n -= LETTERS;
        space = n < PAIRS ? "" : SPACE_MARK;
        letters[0] = (char)('a' + n % PAIRS / LETTERS);
        letters[1] = (char)('a' + n % LETTERS);
    } else {
        n -= LETTERS + 2 * PAIRS;
        space = n % 2 ? "" : SPACE_MARK;
        long long word = n / 2 * 282429LL % WORDS; /* no factor of 26: no word comes twice */
        for (int i = 0; i < 4; i++, word /= LETTERS) letters[i] = (char)('a' + word % LETTERS);
    }
    snprintf(out, PIECE, "%s%s", space, letters);
}

static void put_vocabulary(gw *w, int n)
{
    static const char *const specials[SPECIALS] = {"<unk>", "<s>", "</s>"};
    char(*text)[PIECE] = calloc((size_t)n, sizeof *text);
    ftk_str *tokens = calloc((size_t)n, sizeof *tokens);
    float *scores = calloc((size_t)n, sizeof *scores);
    int32_t *types = calloc((size_t)n, sizeof *types);
    if (!text || !tokens || !scores || !types) run_die("no memory for a vocabulary of %d", n);
    for (int i = 0; i < n; i++) {
        if (i < SPECIALS)
            snprintf(text[i], PIECE, "%s", specials[i]);
        else if (i < SPACE)
            snprintf(text[i], PIECE, "<0x%02X>", (unsigned)(i - SPECIALS) & 0xff);
        else if (i == SPACE)
            snprintf(text[i], PIECE, SPACE_MARK);
        else if (i < NORMAL)
            text[i][0] = (char)('!' + i - SPACE - 1);
        else
            make_piece(i - NORMAL, text[i]);
        tokens[i] = (ftk_str){text[i], strlen(text[i])};
        scores[i] = i < SPACE ? 0.0f : (float)(SPACE - i);
        types[i] = i == 0 ? 2 : i < SPECIALS ? 3 : i < SPACE ? 6 : 1; /* unknown, control, byte */
    }
    gw_str(w, "tokenizer.ggml.model", "llama");
    gw_str_array(w, "tokenizer.ggml.tokens", (uint64_t)n, tokens);
    gw_array(w, "tokenizer.ggml.scores", FTK_GGUF_F32, (uint64_t)n, scores);
    gw_array(w, "tokenizer.ggml.token_type", FTK_GGUF_I32, (uint64_t)n, types);
    gw_u32(w, "tokenizer.ggml.unknown_token_id", 0);
    gw_u32(w, "tokenizer.ggml.bos_token_id", 1);
    gw_u32(w, "tokenizer.ggml.eos_token_id", 2);
    gw_bool(w, "tokenizer.ggml.add_bos_token", true);
    gw_bool(w, "tokenizer.ggml.add_eos_token", false);
    free(types);
    free(scores);
    free(tokens);
    free(text);
}

static void put_keys(gw *w, const job *j)
{
    const shape *s = &j->s;
    char name[128];
    snprintf(name, sizeof name, "random %d/%d/%d/%d/%d/%d, seed %llu", s->dim, s->layers, s->heads,
             s->heads_kv, s->ffn, s->vocab, (unsigned long long)j->seed);
    gw_str(w, "general.architecture", "llama");
    gw_str(w, "general.name", name);
    gw_u32(w, "general.file_type", weights_file_type(j->type));
    gw_u32(w, "general.quantization_version", 2);
    gw_u32(w, "llama.context_length", (uint32_t)j->context);
    gw_u32(w, "llama.embedding_length", (uint32_t)s->dim);
    gw_u32(w, "llama.block_count", (uint32_t)s->layers);
    gw_u32(w, "llama.feed_forward_length", (uint32_t)s->ffn);
    gw_u32(w, "llama.attention.head_count", (uint32_t)s->heads);
    gw_u32(w, "llama.attention.head_count_kv", (uint32_t)s->heads_kv);
    gw_u32(w, "llama.attention.key_length", (uint32_t)s->head_dim);
    gw_u32(w, "llama.attention.value_length", (uint32_t)s->head_dim);
    gw_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gw_f32(w, "llama.rope.freq_base", 10000.0f);
    gw_u32(w, "llama.rope.dimension_count", (uint32_t)s->head_dim);
    gw_u32(w, "llama.vocab_size", (uint32_t)s->vocab);
    put_vocabulary(w, s->vocab);
}

/* ---- tensors */

typedef void each_tensor(modelfile *m, const job *j, const char *name, int n_in, int n_out);

/* All tensors in order; a vector has n_out 0. */
static void for_tensors(modelfile *m, const job *j, each_tensor *f)
{
    const shape *s = &j->s;
    const int dq = s->heads * s->head_dim, dkv = s->heads_kv * s->head_dim;
    const struct {
        const char *name;
        int n_in, n_out;
    } parts[] = {
        {"attn_norm", s->dim, 0},     {"attn_q", s->dim, dq},      {"attn_k", s->dim, dkv},
        {"attn_v", s->dim, dkv},      {"attn_output", dq, s->dim}, {"ffn_norm", s->dim, 0},
        {"ffn_gate", s->dim, s->ffn}, {"ffn_up", s->dim, s->ffn},  {"ffn_down", s->ffn, s->dim},
    };
    f(m, j, "token_embd.weight", s->dim, s->vocab);
    for (int i = 0; i < s->layers; i++)
        for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%d.%s.weight", i, parts[p].name);
            f(m, j, name, parts[p].n_in, parts[p].n_out);
        }
    f(m, j, "output_norm.weight", s->dim, 0);
    if (!s->tied) f(m, j, "output.weight", s->dim, s->vocab);
}

static void plan(modelfile *m, const job *j, const char *name, int n_in, int n_out)
{
    modelfile_plan(m, name, n_in, n_out, n_out ? weights_type(j->type) : FTK_TYPE_F32);
}

/* A tensor's seed comes from its name, so that it is the same in a model of more layers. */
static uint64_t tensor_seed(const job *j, const char *name)
{
    uint64_t h = 0xcbf29ce484222325u ^ j->seed; /* FNV-1a */
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return h;
}

/* Ones for a norm; for a matrix, weights that keep the size of what runs through it. */
static void stream(modelfile *m, const job *j, const char *name, int n_in, int n_out)
{
    const size_t n = (size_t)n_in;
    const size_t bytes = n_out ? ftk_type_bytes(weights_type(j->type), n) : n * sizeof(float);
    void *row = malloc(bytes);
    if (!row) run_die("no memory for a row of %d weights", n_in);
    uint64_t state = tensor_seed(j, name);
    for (int i = 0; i < n_out; i++) {
        weights_random(j->type, &state, 1 / sqrt((double)n_in), n, row);
        modelfile_write(m, row, bytes);
    }
    if (n_out == 0) {
        for (size_t i = 0; i < n; i++) ((float *)row)[i] = 1.0f;
        modelfile_write(m, row, bytes);
    }
    modelfile_align(m);
    free(row);
}

/* ---- the command line */

static void help(void)
{
    printf("makemodel [options] OUT.gguf: a llama model with random weights\n\n"
           "  --shape NAME    one of the table below\n"
           "  --dim N --layers N --heads N --kv-heads N --ffn N --vocab N --head-dim N\n"
           "                  numbers of one's own, or in place of those of a shape given before;\n"
           "                  kv heads are otherwise as many as heads, the head size is dim / "
           "heads\n"
           "  --tied yes|no   whether the embeddings are the output matrix too\n"
           "  --type T        of all matrices: %s (default Q8_0)\n"
           "  --context N     context length the file states (default 4096)\n"
           "  --seed N        default 1\n\n",
           weights_names());
    shape_print_names(stdout);
}

static void take_option(job *j, const char *option, const char *value)
{
    if (shape_option(&j->s, option, value)) return;
    if (strcmp(option, "--type") == 0) {
        j->type = weights_named(value);
        if (!j->type) run_refuse("--type %s: give one of %s", value, weights_names());
    } else if (strcmp(option, "--seed") == 0) {
        j->seed = (uint64_t)run_number(option, value, 0, INT64_MAX);
    } else if (strcmp(option, "--context") == 0) {
        j->context = (int)run_number(option, value, 1, 1 << 27);
    } else if (strcmp(option, "--tied") == 0) {
        j->s.tied = strcmp(value, "yes") == 0;
        if (!j->s.tied && strcmp(value, "no") != 0) run_refuse("--tied %s: give yes or no", value);
    } else {
        run_refuse("%s is unknown: see makemodel --help", option);
    }
}

static void check_shape(shape *s)
{
    const struct {
        const char *option;
        int n;
    } needed[] = {
        {"--dim", s->dim}, {"--layers", s->layers}, {"--heads", s->heads},
        {"--ffn", s->ffn}, {"--vocab", s->vocab},
    };
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if (needed[i].n == 0) run_refuse("%s is missing: give it, or a --shape", needed[i].option);
    if (s->heads_kv == 0) s->heads_kv = s->heads;
    if (s->heads % s->heads_kv != 0)
        run_refuse("%d heads are no multiple of %d kv heads", s->heads, s->heads_kv);
    if (s->head_dim == 0 && s->dim % s->heads != 0)
        run_refuse("--dim %d is no multiple of %d heads: give --head-dim", s->dim, s->heads);
    if (s->head_dim == 0) s->head_dim = s->dim / s->heads;
    if (s->head_dim % 2 != 0 || s->head_dim > FTK_MAX_HEAD_DIM)
        run_refuse("heads of %d cannot be: the size must be even and at most %d", s->head_dim,
                   FTK_MAX_HEAD_DIM);
}

static void count(const job *j, uint64_t *n)
{
    const shape *s = &j->s;
    const uint64_t d = (uint64_t)s->dim, q = (uint64_t)s->heads + (uint64_t)s->heads_kv;
    *n = (uint64_t)s->layers * d * (2 * q * (uint64_t)s->head_dim + 3 * (uint64_t)s->ffn + 2) +
         d * (uint64_t)s->vocab * (s->tied ? 1 : 2) + d;
}

int main(int argc, char **argv)
{
    job j = {.type = weights_named("Q8_0"), .seed = 1, .context = 4096};
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i += 2) {
        if (strcmp(argv[i], "--help") == 0) {
            help();
            return 0;
        }
        if (i + 1 >= argc)
            run_refuse("%s needs a value, or is unknown: see makemodel --help", argv[i]);
        take_option(&j, argv[i], argv[i + 1]);
    }
    if (i + 1 != argc)
        run_refuse("usage: makemodel [options] OUT.gguf; makemodel --help tells more");
    j.path = argv[i];
    check_shape(&j.s);

    modelfile m;
    modelfile_init(&m);
    put_keys(&m.head, &j);
    for_tensors(&m, &j, plan);
    modelfile_begin(&m, j.path);
    for_tensors(&m, &j, stream);
    const uint64_t bytes = modelfile_end(&m);
    uint64_t n;
    char path[256];
    count(&j, &n);
    printf("%s: %.1f million weights in %s, %llu MiB\n", run_shown(path, sizeof path, j.path),
           (double)n / 1e6, ftk_type_name(weights_type(j.type)), (unsigned long long)(bytes >> 20));
    return 0;
}
