/* SPDX-License-Identifier: Apache-2.0
 * The command line: one table of options, clear refusals, help made from the same table. */
#include "options.h"

#include <errno.h>
#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "foretoken_diffusion.h"
#include "say.h"

typedef enum kind {
    FLAG,
    TEXT,
    DEVICE,
    ORIGIN,
    OBJECT,
    PATH,
    WHOLE,
    SEED,
    REAL,
    NAME,
    STOP,
    DRAFTER_FILE,
    LORA,
    LORA_SCALED,
    BIAS,
    LAYERS
} kind;

/* Which commands know an option. */
enum {
    C = 1 << CLI_CHAT,
    G = 1 << CLI_GENERATE,
    T = 1 << CLI_TOKENIZE,
    P = 1 << CLI_PERPLEXITY,
    I = 1 << CLI_INSPECT,
    S = 1 << CLI_SERVE,
    D = 1 << CLI_IMAGE, /* diffusion */
};

typedef struct spec {
    const char *name, *also; /* also: a second spelling, or NULL */
    kind kind;
    unsigned commands;
    size_t offset;     /* of the field in cli_options */
    double min, max;   /* WHOLE, REAL */
    const char *value; /* what the value is called in the help; NULL: a flag */
    const char *give;  /* what may be given */
    const char *example;
    const char *help;
    const char *const *(*names)(void); /* NAME: what may be given */
} spec;

static const char *const *tree_names(void)
{
    static const char *const names[] = {"fitted", "chain", "paper", NULL};
    return names;
}

static const char *const *kv_names(void)
{
    static const char *const names[] = {"f16", "f32", "q8_0", NULL};
    return names;
}

/* What a build may know; whether this one and this machine do, the library says. */
static const char *const *kernel_names(void)
{
    static const char *const names[] = {"ref", "avx2", "avx512", "amx", NULL};
    return names;
}

static const char *const *metric_names(void)
{
    static const char *const names[] = {"vllm", NULL};
    return names;
}

const char *const *cli_cache_metrics(void)
{
    static const char *const names[FTK_N_METRICS + 1] = {
        "rel-l2", "released-l1", "l1", "l2", "released-l2", "cosine", "update", NULL};
    return names;
}

const char *const *cli_cache_tokens(void)
{
    static const char *const names[] = {"attention", "value", "random", NULL};
    return names;
}

static const char *const *sampler_names(void)
{
    static const char *const names[] = {"ddim", "ddpm", NULL};
    return names;
}

#define AT(field) offsetof(cli_options, field)

static const spec specs[] = {
    {"-m", "--model", PATH, C | G | T | P | S, AT(model), 0, 0, "MODEL", "a GGUF file",
     "model.gguf", "model file (default: the best that was fetched, else the demo model)", NULL},
    {"-m", "--model", PATH, D, AT(model), 0, 0, "MODEL", "a GGUF file of the architecture dit",
     "dit.gguf", "model file (default: the bundled demo model)", NULL},
    {"--demo", NULL, FLAG, C | G | T | P | S | D, AT(demo), 0, 0, NULL, NULL, NULL,
     "the bundled demo model, whatever was fetched", NULL},
    {"--lora", NULL, LORA, C | G | P | S, 0, 0, 0, "FILE", "a LoRA adapter's GGUF file",
     "adapter.gguf",
     "LoRA adapter; with --lora-scaled up to 8 in all, and what they change adds up", NULL},
    {"--lora-scaled", NULL, LORA_SCALED, C | G | P | S, 0, -FLT_MAX, FLT_MAX, "FILE:SCALE",
     "a LoRA adapter's GGUF file, a colon and a finite number", "adapter.gguf:0.5",
     "the same, its change times SCALE", NULL},
    {"-p", "--prompt", TEXT, G, AT(prompt), 0, 0, "TEXT", "a text", "'Once upon a time'",
     "text to complete, taken as it stands", NULL},
    {"-f", "--file", PATH, G | P, AT(file), 0, 0, "FILE", "a text file, or - for standard input",
     "text.txt", "read the text from a file (-: standard input)", NULL},
    {"-n", "--tokens", WHOLE, C | G, AT(n), -1, INT32_MAX, "N", "0 or more, or -1 for no limit",
     "64", "most tokens of an answer; -1: no limit (default 256; chat: 512)", NULL},
    {"--chat", NULL, FLAG, G, AT(chat), 0, 0, NULL, NULL, NULL,
     "wrap the prompt in the chat template", NULL},
    {"--system", NULL, TEXT, C | G, AT(system), 0, 0, "TEXT", "a text", "'Answer briefly.'",
     "system message (generate: with --chat)", NULL},
    {"--template", NULL, NAME, C | G | S, AT(template_name), 0, 0, "NAME", NULL, NULL,
     "a built-in chat template (default: the model's own)", ftk_chat_templates},
    {"--template-file", NULL, PATH, C | G | S, AT(template_file), 0, 0, "FILE",
     "a file with a Jinja template", "chat.jinja", "chat template from a file", NULL},
    {"--template-vars", NULL, OBJECT, C | G | S, AT(template_vars), 0, 0, "JSON", "a JSON object",
     "'{\"enable_thinking\": false}'", "variables for the chat template", NULL},
    {"--drafter", NULL, NAME, C | G | S, AT(drafter), 0, 0, "NAME", NULL, NULL,
     "who guesses the next tokens; dash-direct is lossy (default auto)", ftk_drafters},
    {"--drafter-file", NULL, DRAFTER_FILE, C | G | S, 0, 0, 0, "FILE", "a drafter's GGUF file",
     "model-s4c.drafter.gguf",
     "trained drafter, or a head as it is published: a folder with config.json, a\n"
     "                           safetensors or a GGUF file; may be given up to 8 times. Those "
     "beside the\n"
     "                           model (*.drafter.gguf) are found by themselves",
     NULL},
    {"--drafter-layers", NULL, LAYERS, C | G | S, 0, 0, 0, "LIST",
     "1 to 16 layers with commas between them", "2,15,27",
     "layers whose entering states the head of --drafter-file reads\n"
     "                           (default: what its file says)",
     NULL},
    {"--draft-model", NULL, PATH, C | G | S, AT(draft_model), 0, 0, "FILE",
     "the GGUF file of a small model of the same vocabulary", "small.gguf",
     "small model that guesses: drafter draft-model, which auto takes then", NULL},
    {"--verifier", NULL, NAME, C | G, AT(verifier), 0, 0, "NAME", NULL, NULL,
     "who judges the guesses; typical is lossy (default exact)", ftk_verifiers},
    {"--tree", NULL, NAME, C | G, AT(tree), 0, 0, "SHAPE", NULL, NULL,
     "draft tree: fitted to measured costs (default), a chain, or as in the paper", tree_names},
    {"--budget", NULL, WHOLE, C | G | S, AT(budget), -1, 127, "N",
     "0 to 127, or -1 to let costs decide", "16",
     "most drafted tokens a step (default -1: costs decide)", NULL},
    {"--temp", NULL, REAL, C | G, AT(temp), 0, FLT_MAX, "T", "0 or more", "0.8",
     "temperature; 0 takes the likeliest token (default 0)", NULL},
    {"--top-k", NULL, WHOLE, C | G, AT(top_k), 0, INT32_MAX, "K", "0 or more; 0 is off", "40",
     "sample from the K likeliest tokens (default 0: off)", NULL},
    {"--top-p", NULL, REAL, C | G, AT(top_p), FLT_MIN, 1, "P", "more than 0, at most 1", "0.9",
     "sample from the likeliest tokens that sum to P (default 1: off)", NULL},
    {"--min-p", NULL, REAL, C | G, AT(min_p), 0, 1 - FLT_EPSILON, "P", "0 or more, less than 1",
     "0.05", "drop tokens below P times the likeliest (default 0: off)", NULL},
    {"--repeat-penalty", NULL, REAL, C | G, AT(repeat_penalty), FLT_MIN, FLT_MAX, "R",
     "more than 0", "1.1", "make tokens seen lately less likely (default 1: off)", NULL},
    {"--presence-penalty", NULL, REAL, C | G, AT(presence_penalty), -FLT_MAX, FLT_MAX, "P",
     "a number", "0.5", "take P off tokens that the answer has (default 0: off)", NULL},
    {"--frequency-penalty", NULL, REAL, C | G, AT(frequency_penalty), -FLT_MAX, FLT_MAX, "P",
     "a number", "0.5", "take P off tokens each time the answer has them (default 0: off)", NULL},
    {"--logit-bias", NULL, BIAS, C | G, 0, 0, 0, "ID:BIAS", "a token's id and a number", "42:-100",
     "make a token likelier or less likely; may be given up to 64 times", NULL},
    {"--class", NULL, PATH, D, AT(classes), 0, 0, "CLASS[,CLASS...]", "classes by number or name",
     "0,1", "what to make pictures of, a row for each (default: all classes, if they are few)",
     NULL},
    {"-n", NULL, WHOLE, D, AT(n), 1, 1 << 20, "N", "1 to 1048576", "8",
     "pictures of each class (default 1)", NULL},
    {"-o", "--output", PATH, D, AT(output), 0, 0, "FILE", "a file to write", "grid.png",
     "the pictures as a PNG; -: standard output", NULL},
    {"--npy", NULL, PATH, D, AT(npy), 0, 0, "FILE", "a file to write", "samples.npy",
     "the numbers, float32 [pictures][channels][side][side]", NULL},
    {"--scale", NULL, WHOLE, D, AT(scale), 1, 64, "K", "1 to 64", "2",
     "pixels of the PNG for one of the model (default: so that a picture has about 64)", NULL},
    {"--steps", NULL, WHOLE, D, AT(steps), 1, 1 << 14, "STEPS", "1 to 16384", "50",
     "denoising steps (default 50)", NULL},
    {"--sampler", NULL, NAME, D, AT(sampler), 0, 0, "NAME", NULL, NULL,
     "how noise is taken off (default ddim)", sampler_names},
    {"--cfg", NULL, REAL, D, AT(cfg), 0, 1000, "W", "0 to 1000", "4",
     "guidance: how much the class counts; 1 is none (default 1.5)", NULL},
    {"--seed", NULL, SEED, D, AT(seed), 0, 0, "S", "0 to 18446744073709551615", "7",
     "seed of the first picture; the others have the next ones (default 0)", NULL},
    {"--batch", NULL, WHOLE, D, AT(batch), 1, 1024, "N", "1 to 1024", "16",
     "pictures that are made at once; changes nothing in them (default 4)", NULL},
    {"--cache", NULL, NAME, D, AT(image_cache), 0, 0, "NAME", NULL, NULL,
     "how work is saved; all but none are lossy (default none)", ftk_caches},
    {"--cache-interval", NULL, REAL, D, AT(cache_interval), 1, 16384, "N", "1 to 16384", "3",
     "fora, toca, duca: about every N-th step is computed in full (3)", NULL},
    {"--cache-order", NULL, WHOLE, D, AT(cache_order), 0, 6, "M", "0 to 6", "2",
     "speca: order of the forecast (2)", NULL},
    {"--cache-threshold", NULL, REAL, D, AT(cache_threshold), 0, INFINITY, "E", "0 or more, or inf",
     "0.02", "speca: error of a forecast that is allowed at first (0.02)", NULL},
    {"--cache-decay", NULL, REAL, D, AT(cache_decay), 0, 1, "B", "0 to 1", "0.1",
     "speca: what it is multiplied by until the end (0.1)", NULL},
    {"--cache-floor", NULL, REAL, D, AT(cache_floor), 0, FLT_MAX, "E", "0 or more", "0.01",
     "speca: but no less than this (0)", NULL},
    {"--cache-min-run", NULL, WHOLE, D, AT(cache_min_run), 0, 16384, "N", "0 to 16384", "2",
     "speca: forecasts in a row that are not checked (3)", NULL},
    {"--cache-max-run", NULL, WHOLE, D, AT(cache_max_run), 1, 16384, "N", "1 to 16384", "5",
     "speca: forecasts in a row at most (8)", NULL},
    {"--cache-metric", NULL, NAME, D, AT(cache_metric), 0, 0, "NAME", NULL, NULL,
     "speca: how the error is measured (rel-l2)", cli_cache_metrics},
    {"--cache-redo", NULL, FLAG, D, AT(cache_redo), 0, 0, NULL, NULL, NULL,
     "speca: compute a rejected step, not the one behind it", NULL},
    {"--cache-fresh", NULL, REAL, D, AT(cache_fresh), 0, 1, "R", "0 to 1", "0.07",
     "toca, duca: share of tokens that cached steps compute (0.07, 0.05)", NULL},
    {"--cache-step-weight", NULL, REAL, D, AT(cache_step_weight), -10, 10, "W", "-10 to 10", "2",
     "toca, duca: how much more of them later steps get (2)", NULL},
    {"--cache-layer-weight", NULL, REAL, D, AT(cache_layer_weight), -10, 10, "W", "-10 to 10",
     "-0.2", "toca, duca: how much more lower layers get (-0.2)", NULL},
    {"--cache-stale", NULL, REAL, D, AT(cache_stale), 0, 1000, "W", "0 to 1000", "0.25",
     "toca, duca: weight of a token's age (0.25)", NULL},
    {"--cache-bonus", NULL, REAL, D, AT(cache_bonus), 0, 1000, "W", "0 to 1000", "0.6",
     "toca, duca: of the best token of four neighbours (0.6, 0.8)", NULL},
    {"--cache-tokens", NULL, NAME, D, AT(cache_tokens), 0, 0, "NAME", NULL, NULL,
     "toca, duca: which tokens are computed (attention)", cli_cache_tokens},
    {"--cache-once", NULL, FLAG, D, AT(cache_once), 0, 0, NULL, NULL, NULL,
     "toca, duca: one schedule for all layers, unlike the released programs", NULL},
    {"--cache-l2c-threshold", NULL, REAL, D, AT(cache_l2c_threshold), -1, 1, "T", "-1 to 1", "0.1",
     "l2c: branches above it are computed (the file's)", NULL},
    {"--trace", NULL, FLAG, D, AT(trace), 0, 0, NULL, NULL, NULL,
     "what each step of each picture was, on standard error", NULL},
    {"--seed", NULL, SEED, C | G, AT(seed), 0, 0, "S", "0 to 18446744073709551615", "7",
     "seed of the random numbers (default 0); fixes the text with verifier exact", NULL},
    {"--stop", NULL, STOP, C | G, 0, 0, 0, "TEXT", "a text that is not empty", "'User:'",
     "also end at this text; may be given up to 16 times", NULL},
    {"--ignore-eos", NULL, FLAG, G, AT(ignore_eos), 0, 0, NULL, NULL, NULL,
     "go on after an end token", NULL},
    {"-c", "--ctx", WHOLE, C | G | P | S, AT(ctx), 1, 1 << 24, "TOKENS", "1 to 16777216", "2048",
     "context (default: the model's; at most 4096, perplexity: 2048)", NULL},
    {"-t", "--threads", WHOLE, C | G | P | S | D, AT(threads), 1, 256, "THREADS", "1 to 256", "4",
     "threads (default: one per core)", NULL},
    {"--kv", NULL, NAME, C | G | P | S, AT(kv), 0, 0, "TYPE", NULL, NULL,
     "numbers of the KV cache (default f16)", kv_names},
    {"--kernels", NULL, NAME, C | G | P | S | D, AT(kernels), 0, 0, "LEVEL", NULL, NULL,
     "CPU level (default: the best here)", kernel_names},
    {"--device", NULL, DEVICE, C | G | P | S | D, AT(device), 0, 0, "DEVICE",
     "cpu, auto, cuda or cuda:N", "cuda:0",
     "who runs the model: cpu (default), cuda, cuda:N, or auto: cuda if it can", NULL},
    {"--mpi", NULL, FLAG, C | G | P | S, AT(mpi), 0, 0, NULL, NULL, NULL,
     "deal the model's layers out to the processes that mpirun has started", NULL},
    {"--wide-prefill", NULL, FLAG, C | G | P | S, AT(wide_prefill), 0, 0, NULL, NULL, NULL,
     "on a device: read long prompts through cuBLAS; other last bits", NULL},
    {"--stats", NULL, FLAG, C | G, AT(stats), 0, 0, NULL, NULL, NULL,
     "speed and acceptance on standard error; chat dims drafted words", NULL},
    {"--stats", NULL, FLAG, D, AT(stats), 0, 0, NULL, NULL, NULL, "time and work on standard error",
     NULL},
    {"--special", NULL, FLAG, T, AT(special), 0, 0, NULL, NULL, NULL,
     "read (--decode: show) control tokens in the text", NULL},
    {"--decode", NULL, FLAG, T, AT(decode), 0, 0, NULL, NULL, NULL,
     "token ids on standard input to text", NULL},
    {"--json", NULL, FLAG, G | P | I, AT(json), 0, 0, NULL, NULL, NULL, "print one JSON object",
     NULL},
    {"--full", NULL, FLAG, I, AT(full), 0, 0, NULL, NULL, NULL, "do not shorten arrays and texts",
     NULL},
    {"--chunks", NULL, FLAG, P, AT(chunks), 0, 0, NULL, NULL, NULL,
     "count as llama.cpp does: the second half of each -c tokens (default 512)", NULL},
    {"--host", NULL, PATH, S, AT(host), 0, 0, "HOST", "an address or a name of this machine",
     "0.0.0.0", "where to listen (default 127.0.0.1: this machine alone)", NULL},
    {"--port", NULL, WHOLE, S, AT(port), 0, 65535, "PORT", "0 to 65535", "8080",
     "port to listen on; 0: any that is free (default 8080)", NULL},
    {"--api-key", NULL, PATH, S, AT(api_key), 0, 0, "KEY", "a key that is not empty", "secret",
     "key that clients must send; others on this machine may see it here", NULL},
    {"--api-key-file", NULL, PATH, S, AT(api_key_file), 0, 0, "FILE", "a file with a key",
     "key.txt", "the same, from the first line of a file", NULL},
    {"--allow-origin", NULL, ORIGIN, S, AT(allow_origin), 0, 0, "ORIGIN", "an origin, or *",
     "https://chat.example", "let pages from there ask in a browser; *: from anywhere", NULL},
    {"--parallel", NULL, WHOLE, S, AT(parallel), 1, 256, "N", "1 to 256", "8",
     "answers that are made at once (default 4)", NULL},
    {"--queue", NULL, WHOLE, S, AT(queue), 0, 1 << 20, "N", "0 to 1048576", "64",
     "requests that may wait; what comes then is refused (default 64)", NULL},
    {"--cache", NULL, WHOLE, S, AT(cache), 1, 1 << 24, "TOKENS", "1 to 16777216", "16384",
     "KV cache of all answers together (default: the context for each of --parallel,\n"
     "                           at most 16384 or one context)",
     NULL},
    {"--max-body", NULL, WHOLE, S, AT(max_body), 1, 1 << 30, "BYTES", "1 to 1073741824", "1048576",
     "largest body of a request (default 4194304)", NULL},
    {"--timeout", NULL, WHOLE, S, AT(timeout), 0, 86400, "SECONDS", "0 to 86400", "60",
     "close connections on which nothing moves that long; 0: never (default 120)", NULL},
    {"--drain", NULL, WHOLE, S, AT(drain), 0, 86400, "SECONDS", "0 to 86400", "10",
     "time for running answers once SIGTERM or SIGINT came (default 30)", NULL},
    {"--metrics-names", NULL, NAME, S, AT(metrics_names), 0, 0, "NAMES", NULL, NULL,
     "/metrics also under these names", metric_names},
    {"--help", "-h", FLAG, C | G | T | P | I | S | D, AT(help), 0, 0, NULL, NULL, NULL, "this text",
     NULL},
};

enum { N_SPECS = sizeof specs / sizeof specs[0] };

typedef struct about {
    const char *name, *usage, *help;
} about;

static const about commands[CLI_N_COMMANDS] = {
    [CLI_CHAT] =
        {"chat", "[options]",
         "Talk with a model. In a terminal the line can be edited, Ctrl-C stops an\n"
         "answer, Ctrl-D leaves and /help lists the commands. Without a terminal every\n"
         "line of standard input is one message. A message of several lines: paste it;\n"
         "press Alt-Enter where a line ends; end lines with a backslash; or put \"\"\" before\n"
         "the first and behind the last. The last two also without a terminal."},
    [CLI_GENERATE] =
        {"generate", "(-p TEXT | -f FILE) [options]",
         "Complete a text. Only the continuation is printed. With --json also why it\n"
         "ended: \"finish\" is end (an end token), stop (a stop text), limit (-n) or\n"
         "context (full). Tokens and figures are those up to the token that ended it."},
    [CLI_TOKENIZE] = {"tokenize", "[options] < TEXT",
                      "Text on standard input to token ids on one line (no BOS), or back."},
    [CLI_PERPLEXITY] = {"perplexity", "-f FILE [options]",
                        "How well a model predicts a text. The window slides by half its size, so\n"
                        "that past the first window every token has half a window before it."},
    [CLI_INSPECT] =
        {"inspect", "FILE [options]",
         "Show metadata and tensors of a GGUF file, or of a safetensors file or folder."},
    [CLI_SERVE] =
        {"serve", "[options]",
         "Answer requests over HTTP as OpenAI's server does: /v1/chat/completions,\n"
         "/v1/completions, /v1/models, /tokenize, /metrics and others. SIGTERM and SIGINT\n"
         "end it, once running answers are done."},
    [CLI_IMAGE] =
        {"image", "(-o FILE.png | --npy FILE) [options]",
         "Pictures of a diffusion transformer. --cache saves work and is lossy. Numbers in\n"
         "brackets are defaults; docs/diffusion.md has what they mean, and the sources."},
};

cli_command cli_command_find(const char *name)
{
    for (int i = 0; i < CLI_N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0) return (cli_command)i;
    return CLI_N_COMMANDS;
}

const char *cli_command_name(cli_command command)
{
    return commands[command].name;
}

int cli_say_usage(cli_command command, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    cli_say_as(cli_command_name(command), fmt, args);
    va_end(args);
    return CLI_USAGE;
}

const char *cli_name_list(const char *const *names, char *buf, size_t cap)
{
    buf[0] = 0;
    for (size_t i = 0; names[i]; i++) {
        const char *sep = i == 0 ? "" : names[i + 1] ? ", " : " or ";
        const size_t n = strlen(buf);
        snprintf(buf + n, cap - n, "%s%s", sep, names[i]);
    }
    return buf;
}

static bool refuse(const cli_options *o, const spec *s, const char *text, const char *why)
{
    char list[256];
    const char *give = s->names ? cli_name_list(s->names(), list, sizeof list) : s->give;
    const char *flag = s->name;
    const char *example = s->names ? s->names()[0] : s->example;
    const char *quote = text ? "\"" : "";
    cli_say_usage(o->command, "%s: %s%s%s%s%s; give %s, as in %s %s", flag, quote, text ? text : "",
                  quote, text ? " " : "", why, give, flag, example);
    return false;
}

static bool set_path(cli_options *o, const spec *s, const char *text, const char **field)
{
    *field = text;
    return text[0] || refuse(o, s, text, "is empty");
}

static bool set_object(cli_options *o, const spec *s, const char *text, const char **field)
{
    json_t *const v = json_loads(text, 0, NULL);
    const bool is_object = json_is_object(v);
    json_decref(v);
    *field = text;
    return is_object || refuse(o, s, text, "is no JSON object");
}

static bool set_device(cli_options *o, const spec *s, const char *text, const char **field)
{
    const char *const number = strncmp(text, "cuda:", 5) == 0 ? text + 5 : "";
    *field = text;
    return strcmp(text, "cpu") == 0 || strcmp(text, "auto") == 0 || strcmp(text, "cuda") == 0 ||
           (number[0] && !number[strspn(number, "0123456789")]) || refuse(o, s, text, "is unknown");
}

/* As browsers send it: a scheme and a host, and nothing behind that; null of a local file. */
static bool set_origin(cli_options *o, const spec *s, const char *text, const char **field)
{
    const char *const host = strstr(text, "://");
    *field = text;
    return strcmp(text, "*") == 0 || strcmp(text, "null") == 0 ||
           (host && host > text && host[3] && !strpbrk(host + 3, "/?#") && !strpbrk(text, " ,*")) ||
           refuse(o, s, text, "is none");
}

static bool set_whole(cli_options *o, const spec *s, const char *text, int64_t *field)
{
    char *end;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    if (end == text || *end || strchr(" \t\n\v\f\r", text[0]))
        return refuse(o, s, text, "is not a whole number");
    if (errno || (double)v < s->min || (double)v > s->max)
        return refuse(o, s, text, "is out of range");
    *field = v;
    return true;
}

static bool set_seed(cli_options *o, const spec *s, const char *text, uint64_t *field)
{
    if (text[0] == 0 || text[strspn(text, "0123456789")])
        return refuse(o, s, text, "is not a whole number");
    errno = 0;
    const unsigned long long v = strtoull(text, NULL, 10);
    if (errno) return refuse(o, s, text, "is out of range");
    *field = v;
    return true;
}

/* strtod also takes hexadecimal, "inf" and "nan". */
static bool read_real(const char *text, double *v)
{
    char *end;
    *v = strtod(text, &end);
    return end != text && !*end && !text[strspn(text, "0123456789+-.eE")];
}

static bool set_real(cli_options *o, const spec *s, const char *text, double *field)
{
    double v = INFINITY; /* which a limit may be */
    if (strcmp(text, "inf") != 0 && !read_real(text, &v))
        return refuse(o, s, text, "is not a number");
    const bool too_large = isinf(v) && strcmp(text, "inf") != 0;
    if (too_large || !(v >= s->min && v <= s->max)) return refuse(o, s, text, "is out of range");
    *field = v;
    return true;
}

static bool set_name(cli_options *o, const spec *s, const char *text, const char **field)
{
    for (const char *const *name = s->names(); *name; name++) {
        if (strcmp(*name, text) == 0) {
            *field = text;
            return true;
        }
    }
    return refuse(o, s, text, "is unknown");
}

static bool add_text(cli_options *o, const spec *s, const char *text, const char **list, size_t *n,
                     size_t most)
{
    if (text[0] == 0) return refuse(o, s, text, "is empty");
    if (*n == most) return refuse(o, s, text, "is one too many");
    list[(*n)++] = text;
    return true;
}

static bool add_lora(cli_options *o, const spec *s, const char *text)
{
    cli_lora l = {.path = text, .n = strlen(text), .scale = 1};
    if (s->kind == LORA_SCALED) {
        const char *colon = strrchr(text, ':');
        if (!colon || !read_real(colon + 1, &l.scale))
            return refuse(o, s, text, "does not end in a colon and a number");
        if (!(l.scale >= s->min && l.scale <= s->max)) return refuse(o, s, text, "is out of range");
        l.n = (size_t)(colon - text);
    }
    if (l.n == 0) return refuse(o, s, text, text[0] ? "names no file" : "is empty");
    if (o->n_loras == CLI_MAX_LORAS) return refuse(o, s, text, "is one too many");
    o->loras[o->n_loras++] = l;
    return true;
}

static bool add_bias(cli_options *o, const spec *s, const char *text)
{
    char *end;
    errno = 0;
    const long long id = strtoll(text, &end, 10);
    const bool is_id = text[0] >= '0' && text[0] <= '9' && *end == ':';
    const char *const number = end + 1;
    const double v = is_id ? strtod(number, &end) : 0;
    if (!is_id || end == number || *end || number[strspn(number, "0123456789+-.eE")])
        return refuse(o, s, text, "is no id and number");
    if (errno || id > INT32_MAX || !(v >= -FLT_MAX && v <= FLT_MAX))
        return refuse(o, s, text, "is out of range");
    if (o->n_biases == CLI_MAX_BIASES) return refuse(o, s, text, "is one too many");
    o->biases[o->n_biases++] = (ftk_bias){(int32_t)id, (float)v};
    return true;
}

static bool set_layers(cli_options *o, const spec *s, const char *text)
{
    o->n_layers = 0;
    for (const char *at = text;; at++) {
        char *end;
        const long v = strtol(at, &end, 10);
        if (*at < '0' || *at > '9' || (*end && *end != ',') || v > 1 << 20)
            return refuse(o, s, text, "is no list of layers");
        if (o->n_layers == CLI_MAX_LAYERS) return refuse(o, s, text, "has too many");
        o->layers[o->n_layers++] = (int)v;
        if (!*(at = end)) return true;
    }
}

static bool set(cli_options *o, const spec *s, const char *text)
{
    void *field = (char *)o + s->offset;
    switch (s->kind) {
    case FLAG: *(bool *)field = true; return true;
    case TEXT: *(const char **)field = text; return true;
    case DEVICE: return set_device(o, s, text, field);
    case ORIGIN: return set_origin(o, s, text, field);
    case OBJECT: return set_object(o, s, text, field);
    case PATH: return set_path(o, s, text, field);
    case WHOLE: return set_whole(o, s, text, field);
    case SEED: return set_seed(o, s, text, field);
    case REAL: return set_real(o, s, text, field);
    case NAME: return set_name(o, s, text, field);
    case BIAS: return add_bias(o, s, text);
    case LAYERS: return set_layers(o, s, text);
    case STOP: return add_text(o, s, text, o->stops, &o->n_stops, CLI_MAX_STOPS);
    case DRAFTER_FILE:
        return add_text(o, s, text, o->drafter_files, &o->n_drafter_files, CLI_MAX_DRAFTER_FILES);
    case LORA:
    case LORA_SCALED: return add_lora(o, s, text);
    }
    return false;
}

/* The option that arg[0..n) names for this command, or NULL. */
static const spec *find(cli_command command, const char *arg, size_t n)
{
    for (int i = 0; i < N_SPECS; i++) {
        const spec *s = &specs[i];
        const bool hit = (strlen(s->name) == n && memcmp(s->name, arg, n) == 0) ||
                         (s->also && strlen(s->also) == n && memcmp(s->also, arg, n) == 0);
        if (hit && s->commands & 1u << command) return s;
    }
    return NULL;
}

static bool set_operand(cli_options *o, const char *arg)
{
    if (o->command != CLI_INSPECT || o->operand) {
        cli_say_usage(o->command, "unexpected argument \"%s\"; see foretoken help %s", arg,
                      commands[o->command].name);
        return false;
    }
    o->operand = arg;
    return true;
}

/* What is known to be wrong without a model. */
static bool check_together(const cli_options *o)
{
    const char *const wrong =
        o->model && o->demo ? "-m and --demo exclude each other; give one of them"
        : o->template_name && o->template_file
            ? "--template and --template-file exclude each other; give one of them"
        : o->n_layers > 0 && o->n_drafter_files != 1
            ? "--drafter-layers is about one --drafter-file; give that once"
            : NULL;
    if (wrong) cli_say_usage(o->command, "%s", wrong);
    return !wrong;
}

bool cli_options_parse(cli_options *o, cli_command command, int argc, char **argv)
{
    *o = (cli_options){.command = command,
                       .n = command == CLI_CHAT    ? 512
                            : command == CLI_IMAGE ? 1
                                                   : 256,
                       .budget = -1,
                       .top_p = 1,
                       .repeat_penalty = 1,
                       .drafter = "auto",
                       .verifier = "exact",
                       .tree = "fitted",
                       .kv = "f16",
                       .host = "127.0.0.1",
                       .port = 8080,
                       .parallel = 4,
                       .queue = 64,
                       .max_body = 4 << 20,
                       .timeout = 120,
                       .drain = 30,
                       .image_cache = "none",
                       .steps = 50,
                       .batch = 4, /* more would push what caches keep out of the processor's */
                       .cfg = 1.5,
                       .cache_order = -1,
                       .cache_min_run = -1,
                       .cache_max_run = -1,
                       .cache_interval = NAN,
                       .cache_threshold = NAN,
                       .cache_decay = NAN,
                       .cache_floor = NAN,
                       .cache_fresh = NAN,
                       .cache_step_weight = NAN,
                       .cache_layer_weight = NAN,
                       .cache_stale = NAN,
                       .cache_bonus = NAN,
                       .cache_l2c_threshold = NAN};
    bool only_operands = false;
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i];
        if (only_operands || arg[0] != '-' || arg[1] == 0) {
            if (!set_operand(o, arg)) return false;
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            only_operands = true;
            continue;
        }
        const char *equals = arg[1] == '-' ? strchr(arg, '=') : NULL;
        const spec *s = find(command, arg, equals ? (size_t)(equals - arg) : strlen(arg));
        if (!s || (equals && s->kind == FLAG)) {
            cli_say_usage(command, "unknown option \"%s\"; see foretoken help %s", arg,
                          commands[command].name);
            return false;
        }
        const char *text = equals ? equals + 1 : NULL;
        if (!text && s->kind != FLAG) {
            if (++i == argc) return refuse(o, s, NULL, "a value is missing");
            text = argv[i];
        }
        if (!set(o, s, text)) return false;
        if (o->help) return true;
    }
    return check_together(o);
}

void cli_help(FILE *f)
{
    fprintf(f, "foretoken %s: exact speculative decoding of large language models\n\n",
            ftk_version());
    for (int i = 0; i < CLI_N_COMMANDS; i++)
        fprintf(f, "    foretoken %-10s %s\n", commands[i].name, commands[i].usage);
    fputs("    foretoken help       [command]\n    foretoken --version\n\n"
          "Exit status: 0 done, 1 something failed, 2 the command line was not understood.\n",
          f);
}

void cli_help_command(FILE *f, cli_command command)
{
    fprintf(f, "foretoken %s %s\n\n%s\n\n", commands[command].name, commands[command].usage,
            commands[command].help);
    for (int i = 0; i < N_SPECS; i++) {
        const spec *s = &specs[i];
        if (!(s->commands & 1u << command)) continue;
        char left[64];
        snprintf(left, sizeof left, "%s%s%s%s%s", s->name, s->also ? ", " : "",
                 s->also ? s->also : "", s->value ? " " : "", s->value ? s->value : "");
        fprintf(f, "  %-24s %s\n", left, s->help);
        char list[256];
        if (s->names)
            fprintf(f, "  %-24s   %s\n", "", cli_name_list(s->names(), list, sizeof list));
    }
}
