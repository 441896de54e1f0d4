/* SPDX-License-Identifier: Apache-2.0
 *
 * Foretoken: exact speculative decoding of large language models. This header is the manual.
 *
 * A program loads a model, opens an engine on it (threads, KV cache, cost model), opens one
 * session per conversation, appends prompt tokens and calls ftk_step() until the answer ends:
 *
 *     example: complete
 *
 *     ftk_model_config mc;
 *     ftk_model_config_init(&mc);
 *     ftk_model *model = NULL;
 *     ftk_err err = ftk_model_load(&model, "model.gguf", &mc);
 *
 *     ftk_engine_config ec;
 *     ftk_engine_config_init(&ec);
 *     ftk_engine *engine = NULL;
 *     if (err == FTK_OK) err = ftk_engine_open(&engine, model, &ec);
 *
 *     ftk_session_config sc;
 *     ftk_session_config_init(&sc);
 *     ftk_session *session = NULL;
 *     if (err == FTK_OK) err = ftk_session_open(&session, engine, &sc);
 *
 *     int32_t prompt[512];
 *     size_t n_prompt = 0;
 *     if (err == FTK_OK)
 *         err = ftk_tokenize(model, "Once upon a time", 16, FTK_TOK_BOS, prompt, 512, &n_prompt);
 *     if (err == FTK_OK) err = ftk_session_append(session, prompt, n_prompt);
 *
 *     for (int i = 0; err == FTK_OK && i < 64; i++) {
 *         ftk_result r;
 *         err = ftk_step(&session, 1, &r);
 *         if (err != FTK_OK || r.finish != FTK_FINISH_NONE) break;
 *     }
 *
 *     ftk_session_free(session);
 *     ftk_engine_free(engine);
 *     ftk_model_free(model);
 *
 *     end of example
 *
 * Rules that hold everywhere
 *  - Errors are ftk_err, 0 or negative. The line that explains one goes to the log hook of the
 *    ftk_host the object was made with. The library never prints, exits, reads an environment
 *    variable or keeps global state.
 *  - Every _free accepts NULL and half-built objects; free in reverse order of opening.
 *    Where a function that makes an object fails, *out is NULL.
 *  - A config struct is filled by its _init function, which also writes its size, that of the
 *    header the caller was compiled with. New fields come last: of a smaller struct the library
 *    takes the rest from its defaults, and a larger one it refuses only where something is set
 *    that it does not know (UNSUPPORTED). Bindings without this header call _fill with the size
 *    of their own struct. Structs that carry no size stay as they are.
 *  - Strings are UTF-8. Token ids are int32_t in [0, n_vocab).
 *  - Threads: an ftk_gguf and an ftk_model are read-only after loading and may be shared. An
 *    engine and all of its sessions belong to one thread at a time. The threads of an engine are
 *    its own, take no signals, and end with it.
 *  - After fork() the child may go on with what the parent had opened, on a CPU: a model, an
 *    engine, its sessions; an engine makes new threads there. (CUDA can't be used in a child.)
 *    Fork while no call of the library runs.
 *  - Functions that compute do so in the default floating-point environment (rounding to nearest,
 *    denormal numbers kept, no traps), and give the caller's back. Hooks are called inside it.
 *  - With the verifier "exact", and at temperature 0 with every lossless one, the tokens a session
 *    emits are those of drafter "none", whatever the drafter (but for "dash-direct", which is no
 *    drafter in that sense, and lossy), its budget, the number of threads and the other sessions in
 *    the batch. */
#ifndef FORETOKEN_H
#define FORETOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FTK_API __attribute__((visibility("default")))
#else
#define FTK_API
#endif

/* ------------------------------------------------------------------ errors, memory, log */

/* name, value, what it means */
#define FTK_ERR_LIST(X)                                                                            \
    X(OK, 0, "success")                                                                            \
    X(ERR_NOMEM, -1, "out of memory")                                                              \
    X(ERR_IO, -2, "a file could not be opened, read or mapped")                                    \
    X(ERR_FORMAT, -3, "a file's content is malformed")                                             \
    X(ERR_UNSUPPORTED, -4, "well-formed, but not supported by this build")                         \
    X(ERR_INVALID, -5, "an argument is out of its documented range")                               \
    X(ERR_SPACE, -6, "the caller's buffer is too small")                                           \
    X(ERR_CONTEXT, -7, "too long: the context window is full, or the whole KV cache too small")    \
    X(ERR_NUMERIC, -8, "the model produced values that are not finite")                            \
    X(ERR_DEVICE, -9, "a GPU is missing or has failed")                                            \
    X(ERR_NO_ROOM, -10, "no room in the KV cache just now: other sessions hold it")                \
    X(ERR_CANCELLED, -11, "the host no longer wants it")

typedef enum ftk_err {
#define FTK_ERR_ENUM(name, value, text) FTK_##name = value,
    FTK_ERR_LIST(FTK_ERR_ENUM)
#undef FTK_ERR_ENUM
} ftk_err;

/* A short lower-case description of an error; never NULL, also for unknown codes. */
FTK_API const char *ftk_strerror(ftk_err err);

/* "MAJOR.MINOR.PATCH". */
FTK_API const char *ftk_version(void);

typedef enum ftk_log_level { FTK_LOG_ERROR, FTK_LOG_WARN, FTK_LOG_INFO } ftk_log_level;

/* What the library asks of the process it lives in. All-zero is valid: malloc and no log.
 * alloc returns size bytes aligned to align (a power of two, at most 64), or NULL; free gets what
 * alloc returned, never NULL. log gets one line without a newline. They may be called from the
 * thread that called the library, only. */
typedef struct ftk_host {
    void *ctx;
    void *(*alloc)(void *ctx, size_t size, size_t align);
    void (*free)(void *ctx, void *p);
    void (*log)(void *ctx, ftk_log_level level, const char *line);
} ftk_host;

enum { FTK_SHOW_TEXT = 1 }; /* running text, not one line */

/* Makes text from outside (n bytes, any bytes) harmless for a terminal: what a file, a name or a
 * model says may hold commands to it. As one line, control characters (C0, DEL and C1, U+0080 to
 * U+009F), bytes that are no UTF-8, line separators, and marks that turn the order of letters
 * round (U+202E and its like) come out as \x1b, byte by byte. With FTK_SHOW_TEXT newlines, tabs
 * and those marks stay, other control characters are left out, and broken bytes become U+FFFD.
 * Writes at most cap bytes (at least 8), terminated; what does not fit is cut and ends in "...":
 * 4 * n + 8 bytes always do. Returns the length. Lines for the log hook have gone through it. */
FTK_API size_t ftk_show(const char *text, size_t n, unsigned flags, char *buf, size_t cap);

/* ------------------------------------------------------------------ GGUF files */

/* Tensor types, with the numbers GGUF gives them. Those the passes can run are listed by
 * ftk_type_supported(); the others are known by name only, so that a refusal can name them. */
typedef enum ftk_type {
    FTK_TYPE_F32 = 0,
    FTK_TYPE_F16 = 1,
    FTK_TYPE_Q4_0 = 2,
    FTK_TYPE_Q4_1 = 3,
    FTK_TYPE_Q5_0 = 6,
    FTK_TYPE_Q5_1 = 7,
    FTK_TYPE_Q8_0 = 8,
    FTK_TYPE_Q2_K = 10,
    FTK_TYPE_Q3_K = 11,
    FTK_TYPE_Q4_K = 12,
    FTK_TYPE_Q5_K = 13,
    FTK_TYPE_Q6_K = 14,
    FTK_TYPE_IQ4_NL = 20,
    FTK_TYPE_IQ4_XS = 23,
    FTK_TYPE_BF16 = 30,
} ftk_type;

/* "Q8_0"; NULL for a number newer than this build. Types that were removed from the format keep
 * their names. */
FTK_API const char *ftk_type_name(uint32_t type);
FTK_API bool ftk_type_supported(uint32_t type);

typedef enum ftk_gguf_type {
    FTK_GGUF_U8,
    FTK_GGUF_I8,
    FTK_GGUF_U16,
    FTK_GGUF_I16,
    FTK_GGUF_U32,
    FTK_GGUF_I32,
    FTK_GGUF_F32,
    FTK_GGUF_BOOL,
    FTK_GGUF_STRING,
    FTK_GGUF_ARRAY,
    FTK_GGUF_U64,
    FTK_GGUF_I64,
    FTK_GGUF_F64,
    FTK_GGUF_N_TYPES
} ftk_gguf_type;

/* A view of bytes in the mapped file: not terminated, may hold any byte. */
typedef struct ftk_str {
    const char *p;
    size_t n;
} ftk_str;

/* One metadata value. Integers are in u (unsigned types, bool) or i (signed types), floats in f,
 * strings in s. For an array, elem is the element type, count the number of elements, and data
 * their first byte: fixed-size elements lie there packed, little-endian and unaligned; strings are
 * read one after the other with ftk_gguf_next_str(). */
typedef struct ftk_gguf_value {
    ftk_gguf_type type;
    ftk_gguf_type elem;
    uint64_t count;
    union {
        uint64_t u;
        int64_t i;
        double f;
        ftk_str s;
    };
    const unsigned char *data;
} ftk_gguf_value;

typedef struct ftk_tensor_info {
    ftk_str name;
    uint32_t type;    /* as in the file; see ftk_type_name() */
    uint32_t n_dims;  /* 1..4 */
    uint64_t dims[4]; /* dims[0] is the row length; unused ones are 1 */
    uint32_t shard;   /* the part it lies in, 0 where there is only one */
    uint64_t offset;  /* from the start of that file, in bytes */
    uint64_t size;    /* bytes; 0: not known (a type newer than this build; Q4_2, Q4_3) */
    const void *data; /* size bytes of the mapping */
} ftk_tensor_info;

typedef struct ftk_gguf ftk_gguf;

/* Maps and checks a GGUF file, version 2 or 3, little-endian: every count, length, offset,
 * alignment and product is checked before use, so that all views handed out later lie inside the
 * mapping. Tensors of types that no pass can run, or that are newer than this build, are there like
 * others. Errors: IO, FORMAT, UNSUPPORTED (version, big-endian), NOMEM, INVALID (an empty path);
 * host->log says which key or tensor, and of what is no GGUF file, what it is and how to mend that.
 * host may be NULL. The file must not be truncated while it is open.
 * A model in several files (split.count above 1) is opened whole, by the path of any of them: their
 * names end in -00001-of-00003.gguf and so on. Keys are those of the first part.
 * Format: github.com/ggml-org/ggml, docs/gguf.md. */
FTK_API ftk_err ftk_gguf_open(ftk_gguf **out, const char *path, const ftk_host *host);
FTK_API void ftk_gguf_free(ftk_gguf *g);
FTK_API uint32_t ftk_gguf_version(const ftk_gguf *g);
FTK_API uint64_t ftk_gguf_alignment(const ftk_gguf *g);
FTK_API uint64_t ftk_gguf_file_size(const ftk_gguf *g); /* of all parts */
FTK_API size_t ftk_gguf_n_shards(const ftk_gguf *g);    /* 1: the model is in one file */
FTK_API size_t ftk_gguf_n_keys(const ftk_gguf *g);
FTK_API size_t ftk_gguf_n_tensors(const ftk_gguf *g);
/* The i-th key and value, in file order; i must be below ftk_gguf_n_keys(). */
FTK_API void ftk_gguf_key(const ftk_gguf *g, size_t i, ftk_str *key, ftk_gguf_value *value);
/* The i-th tensor, in file order; i must be below ftk_gguf_n_tensors(). */
FTK_API void ftk_gguf_tensor(const ftk_gguf *g, size_t i, ftk_tensor_info *info);
/* True and *value filled when the key is there. */
FTK_API bool ftk_gguf_find(const ftk_gguf *g, const char *key, ftk_gguf_value *value);
FTK_API bool ftk_gguf_find_tensor(const ftk_gguf *g, const char *name, ftk_tensor_info *info);
/* Walks an array of strings: start with *cursor = value->data; call at most value->count times. */
FTK_API ftk_str ftk_gguf_next_str(const unsigned char **cursor);

/* ------------------------------------------------------------------ safetensors */

/* A checkpoint as it is published for other programs, to look into: a folder with config.json
 * and safetensors, or one safetensors file, with config.json beside it or without. */
typedef struct ftk_checkpoint ftk_checkpoint;

typedef struct ftk_checkpoint_tensor {
    ftk_str name, type;    /* "BF16"; both as the file has them: see ftk_show() */
    uint32_t n_dims;       /* 0..4 */
    uint64_t dims[4];      /* the row length last */
    uint32_t file;         /* which of the files it lies in, by name */
    uint64_t offset, size; /* bytes; the offset from that file's first tensor */
} ftk_checkpoint_tensor;

/* Whether a path is one: a folder, or a name that ends in .safetensors. */
FTK_API bool ftk_checkpoint_is(const char *path);
/* Maps and checks: whatever a header says lies inside its file, no two tensors of one share a
 * byte, no byte is no tensor's, config.json is JSON. Errors: IO, FORMAT, INVALID (a folder
 * without safetensors), UNSUPPORTED (more than 64 files), NOMEM. host may be NULL. */
FTK_API ftk_err ftk_checkpoint_open(ftk_checkpoint **out, const char *path, const ftk_host *host);
FTK_API void ftk_checkpoint_free(ftk_checkpoint *c);
FTK_API size_t ftk_checkpoint_n_files(const ftk_checkpoint *c);
FTK_API size_t ftk_checkpoint_n_tensors(const ftk_checkpoint *c);
/* The i-th tensor, file by file in the order of their headers; i must be below
 * ftk_checkpoint_n_tensors(). */
FTK_API void ftk_checkpoint_tensor_at(const ftk_checkpoint *c, size_t i, ftk_checkpoint_tensor *t);
/* The text of config.json, a JSON object; empty where there is none. Valid as long as c. */
FTK_API ftk_str ftk_checkpoint_config(const ftk_checkpoint *c);

/* ------------------------------------------------------------------ model */

typedef struct ftk_model ftk_model;

/* A LoRA adapter (arXiv 2106.09685), as llama.cpp's convert_lora_to_gguf.py writes it. For a matrix
 * W [n_out][n_in] of the model, tensor NAME, it holds A [rank][n_in] in NAME.lora_a and B
 * [n_out][rank] in NAME.lora_b; of token_embd.weight the pair is written the other way round, A
 * [n_vocab][rank] and B [n_embd][rank]. W becomes W + scale * adapter.lora.alpha / rank * B A,
 * where the rank is the pair's own; without alpha, or where it is 0, W + scale * B A. A norm that
 * the file carries (NAME_norm.weight, its whole values) takes the place of the model's: at another
 * scale than 1, so much of the way there (llama.cpp leaves such norms out). Where output and
 * embeddings are one tensor, a change of token_embd.weight changes both. Other keys, such as
 * adapter.lora.task_name and adapter.lora.prompt_prefix, say what the adapter is for and change
 * nothing. */
typedef struct ftk_adapter {
    const char *path;
    float scale; /* finite; 1 is what the adapter was trained to do */
} ftk_adapter;

typedef struct ftk_model_config {
    size_t size;
    ftk_host host;
    /* "ref", "avx2", "avx512", "amx"; NULL: the best this machine can run, or avx512 where amx
     * is found to be slower for this model, by a trial of some milliseconds. For amx the library
     * asks Linux, for the whole process, for leave to use tiles; refused, it takes avx512. */
    const char *kernels;
    /* NULL, or called with host.ctx while weights are read and packed: bytes done, of how many; at
     * the end with both the same. Not called where nothing is packed. */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    /* Reads the vocabulary and the chat template alone, of a file of any architecture, with or
     * without weights: enough to tokenize. Such a model opens no engine, and its info has no
     * sizes. */
    bool vocabulary_only;
    /* Added to the weights while they are loaded, all of them: what they change adds up. The list
     * is read by ftk_model_load() alone; of a model that has a vocabulary only, not at all. */
    const ftk_adapter *adapters; /* [n_adapters] */
    size_t n_adapters;
    /* NULL, or asked with host.ctx, by the thread that loads, before each matrix is packed or
     * changed: false ends the load with CANCELLED, once the matrices in hand are done. Asked
     * likewise while ftk_engine_add_draft_model() loads a model beside this one, so host.ctx and
     * what it asks outlive the model. */
    bool (*wanted)(void *ctx);
    /* Of a model whose layers are dealt out to processes, see ftk_link: which one this is, of
     * how many. Only its own layers' weights are taken into memory. 0 of 0 (or of 1): all of
     * them. */
    int stage, n_stages;
} ftk_model_config;

FTK_API void ftk_model_config_fill(ftk_model_config *cfg, size_t size);
static inline void ftk_model_config_init(ftk_model_config *cfg)
{
    ftk_model_config_fill(cfg, sizeof *cfg);
}

/* Loads a model: architectures llama, qwen2, qwen3, phi3 and gemma3; weights of the types above,
 * mixed freely; a SentencePiece or a byte-pair vocabulary (tokenizer.ggml.model = llama or
 * gpt2). Anything else is refused by name, tensors the architecture has no use for among it;
 * only a byte-pair vocabulary's way to cut text into words (tokenizer.ggml.pre), where it is
 * missing or not known, is replaced by "default", and the log gets a warning. What has been
 * packed is read no more, and its pages of the file are given back. Matrices that adapters
 * change are added to in F32, once, and rounded once: F32, F16, BF16 and Q8_0 stay what they
 * are, and all types of fewer bits become Q8_0, in which an adapter is not lost. They stay in
 * memory as they would lie in a file (ftk_model_info.adapted_bytes), beside what is packed of
 * them: devices and DASH's copy in few bits are made of that. The fingerprint is that of the
 * model without adapters, so that its drafters still suit. Errors: those of ftk_gguf_open(),
 * UNSUPPORTED, INVALID (unknown kernels; no adapter, one for another model, or with tensors that
 * this one does not have or has in other shapes), CANCELLED, FORMAT (also: with adapters a
 * weight is not finite). The log says which adapter and tensor. */
FTK_API ftk_err ftk_model_load(ftk_model **out, const char *path, const ftk_model_config *cfg);
FTK_API void ftk_model_free(ftk_model *m);

typedef struct ftk_model_info {
    const char *name;          /* general.name, "" if absent; as in the file: see ftk_show() */
    const char *architecture;  /* general.architecture: "llama"; "" if vocabulary_only */
    const char *kernels;       /* level in use */
    const char *chat_template; /* what ftk_chat_tokenize() takes unasked: "default", the template
                                  that the file carries; or, if there is none, the built-in form
                                  that the vocabulary's control tokens speak for, "plain" without
                                  any */
    bool has_chat_template;    /* the file carries one */
    int n_vocab, n_ctx_train, n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim;
    int32_t bos, eos, eot; /* -1: none */
    bool add_bos;
    uint64_t n_params;       /* elements of all tensors */
    uint64_t weight_bytes;   /* bytes of weights one token reads */
    const char *fingerprint; /* 16 hexadecimal digits, the same in every quantisation: the model a
                                trained drafter belongs to. FNV-1a, 64 bits, over the numbers of
                                layers, of dimensions and of tokens as u32, and then, as f32, the
                                attention and feed-forward norms layer by layer and the last norm,
                                all little-endian. "" if vocabulary_only */
    uint64_t adapted_bytes;  /* of memory, for matrices that adapters changed; 0: there are none */
} ftk_model_info;

/* The strings live as long as the model. size: the caller's sizeof *info; what it does not cover
 * is left out. */
FTK_API void ftk_model_report(const ftk_model *m, ftk_model_info *info, size_t size);
static inline void ftk_model_get_info(const ftk_model *m, ftk_model_info *info)
{
    ftk_model_report(m, info, sizeof *info);
}
/* True for the tokens that end an answer: those that tokenizer.ggml.eos_token_id, eot_token_id and
 * eom_token_id name, and control tokens that are known to by their text, such as <|im_end|>,
 * <|eot_id|>, <end_of_turn> or <|endoftext|>. */
FTK_API bool ftk_model_is_end(const ftk_model *m, int32_t token);

/* ------------------------------------------------------------------ text */

enum {
    FTK_TOK_BOS = 1,     /* put BOS in front if the model asks for it */
    FTK_TOK_SPECIAL = 2, /* read control tokens in the text; never for text of a user */
    FTK_TOK_EOS = 4,     /* put EOS behind if the model asks for it; not for text to go on from */
};

/* Text (n bytes, any bytes) to token ids, those of the vocabulary's own tokenizer. Bytes that
 * are no UTF-8 become byte tokens one by one. A byte for which the vocabulary has no token,
 * which is rare, becomes the unknown token, or is left out where there is none either;
 * SentencePiece reads U+2581 as a space, and some vocabularies (Qwen's) read a letter and the
 * marks behind it as the one character that they are in Unicode's normal form C. All else comes
 * back from ftk_detokenize() as it was. With SPECIAL some control tokens (Phi-3's) take the
 * white space behind them. *n_out gets the number of tokens, also when cap is too small (SPACE,
 * nothing written; tokens may then be NULL). Errors: SPACE, NOMEM, INVALID. */
FTK_API ftk_err ftk_tokenize(const ftk_model *m, const char *text, size_t n, unsigned flags,
                             int32_t *tokens, size_t cap, size_t *n_out);
/* Token ids to text, the same way, not terminated: without control tokens, unless FTK_TOK_SPECIAL,
 * and without the space put before the first word. Errors: SPACE, INVALID (an id out of range). */
FTK_API ftk_err ftk_detokenize(const ftk_model *m, const int32_t *tokens, size_t n, unsigned flags,
                               char *text, size_t cap, size_t *n_out);

typedef struct ftk_message {
    const char *role;    /* "system", "user", "assistant", or what else the template knows */
    const char *content; /* UTF-8, terminated; control tokens in it are plain text */
} ftk_message;

/* How a conversation becomes text: by the model's own chat template, which is a small program in
 * the Jinja language that its file carries, by a built-in form, or by a template that the caller
 * gives. */
typedef struct ftk_chat_config {
    size_t size;
    const char *tmpl;   /* NULL: see ftk_model_info.chat_template. A built-in form; "default": the
                           file's own template; another of those it carries by name, such as
                           "tool_use" */
    const char *source; /* NULL, or the text of a Jinja template that is taken instead */
    bool add_generation_prompt; /* ends where the assistant's answer starts (default) */
    int64_t now; /* what a template takes for the date: seconds since 1970, of the zone that it
                    should show; -1 (default): the clock, in UTC */
    /* JSON, or NULL. tools: what the model may call, as a list of function schemas; a file that
     * carries a template "tool_use" is asked for that one then. vars: an object of further
     * variables, such as {"enable_thinking": false}; they take the place of those of the same
     * name. Built-in forms know neither: with tools they are refused. */
    const char *tools, *vars;
    /* JSON, or NULL: what messages have beside role and content, as a list with an object or null
     * for each of them, such as [null, {"tool_calls": [...]}, {"tool_call_id": "1"}]; with
     * "content": null in it a message has none, to templates that ask. Built-in forms refuse it. */
    const char *members;
} ftk_chat_config;

FTK_API void ftk_chat_config_fill(ftk_chat_config *cfg, size_t size);
static inline void ftk_chat_config_init(ftk_chat_config *cfg)
{
    ftk_chat_config_fill(cfg, sizeof *cfg);
}

/* The names of the built-in forms, NULL-terminated: chatml llama2 llama3 vicuna zephyr mistral
 * gemma phi3 plain. */
FTK_API const char *const *ftk_chat_templates(void);
/* A conversation to tokens. Only the template's own words are read as control tokens, never text
 * of a message, of tools or of vars, not even where both together would spell one; the usual
 * roles count as the template's words. A template that writes BOS at its start gets no second
 * one; else BOS is put in front where the model asks for it. cfg NULL: all defaults. Roles other
 * than system, user and assistant are up to the template; built-in forms refuse them. What a
 * template renders is what Python's jinja2 renders as the transformers package uses it. It may
 * not change lists and mappings, and is stopped at bounds on steps, memory, depth and the length
 * of what it makes (256 KiB, and 8 times what it was given) that no sane one reaches; one that
 * makes nothing is refused, too. Errors: SPACE (*n_out is the number needed), INVALID (unknown
 * name or role; the template fails or refuses the conversation: the log gets its own words and
 * the line), UNSUPPORTED (it asks for a part of the language that is not known here), NOMEM. */
FTK_API ftk_err ftk_chat_tokenize_as(const ftk_model *m, const ftk_chat_config *cfg,
                                     const ftk_message *msgs, size_t n_msgs, int32_t *tokens,
                                     size_t cap, size_t *n_out);
/* The same with everything but tmpl at its default; the same errors. */
FTK_API ftk_err ftk_chat_tokenize(const ftk_model *m, const char *tmpl, const ftk_message *msgs,
                                  size_t n_msgs, int32_t *tokens, size_t cap, size_t *n_out);
/* The text of the same conversation, not terminated, without a BOS that the template does not
 * write. For showing: what is tokenized from it again may take a user's words for control tokens.
 * Errors: those of ftk_chat_tokenize_as(). */
FTK_API ftk_err ftk_chat_text(const ftk_model *m, const ftk_chat_config *cfg,
                              const ftk_message *msgs, size_t n_msgs, char *text, size_t cap,
                              size_t *n_out);
/* A text that also ends an answer under this form ("USER:" for vicuna), or NULL. */
FTK_API const char *ftk_chat_stop(const char *tmpl);

/* Turns tokens into text as they come. Never splits a UTF-8 character: bytes of an unfinished one
 * wait for the next token. Text that may be the start of a stop string waits too. */
typedef struct ftk_stream ftk_stream;
/* continues: the text goes on from earlier tokens, so a leading space is kept. Stop strings are
 * copied; n_stops may be 0. Errors: NOMEM, INVALID (an empty stop string). */
FTK_API ftk_err ftk_stream_open(ftk_stream **out, const ftk_model *m, bool continues,
                                const char *const *stops, size_t n_stops);
FTK_API void ftk_stream_free(ftk_stream *s);
/* Feeds one token; *text, *n is what can be shown now, valid until the next call. *stopped is true
 * once a stop string was found: the text before it has been given, all later calls give nothing.
 * Errors: NOMEM, INVALID. */
FTK_API ftk_err ftk_stream_push(ftk_stream *s, int32_t token, const char **text, size_t *n,
                                bool *stopped);
/* Gives what was waiting; broken UTF-8 comes out as U+FFFD. Errors: NOMEM. */
FTK_API ftk_err ftk_stream_flush(ftk_stream *s, const char **text, size_t *n);

/* ------------------------------------------------------------------ engine */

typedef struct ftk_engine ftk_engine;

/* How processes that share a model reach each other, on one machine or several of one kind: by
 * MPI, say. Stage `rank` of `size` runs layers n_layer * rank / size up to n_layer * (rank + 1)
 * / size. The last one opens an engine, with this in its config; the others call ftk_stage_run()
 * and do as it says. Only rows of states go from one to the next, as they are, so what comes has
 * the bits of one process (with the same kernels everywhere). Both functions take all n bytes,
 * in the order in which they were sent, or return false: then the link is lost. They are called
 * on the thread that called the library. */
typedef struct ftk_link {
    void *ctx;
    int rank, size;
    bool (*send)(void *ctx, int to, const void *data, size_t n);
    bool (*receive)(void *ctx, int from, void *data, size_t n);
} ftk_link;

/* Runs a stage that is not the last one, until the engine is freed. The model was loaded as this
 * stage. threads: as of an engine; its pages of the KV cache are as many as the engine's. Peers
 * are trusted: what they send is checked so far that nothing is read or written outside. Errors:
 * INVALID, NOMEM, UNSUPPORTED (another version), DEVICE (another stage is gone), FORMAT. */
FTK_API ftk_err ftk_stage_run(const ftk_model *m, const ftk_link *link, int threads);

typedef struct ftk_engine_config {
    size_t size;
    int threads;      /* 1..256; 0: one per processor that the process may use, by its affinity and
                          by the CPU quota of its control group (rounded up) */
    int kv_slots;     /* KV cache of all sessions together, in tokens; 0: the model's context,
                          at most 4096. Models with frequencies for short and for long contexts
                          (phi3) take those for long ones when this is above their short one */
    ftk_type kv_type; /* F16 (default), F32, or Q8_0: half the memory, other logits */
    int max_rows;     /* rows of one pass, 128..4096; default 256 */
    bool measure;     /* measure the cost of a pass at open (default); else assume it is flat */
    /* Who runs the passes. NULL or "cpu" (default); "cuda" or "cuda:N": an NVIDIA GPU, which
     * gets a copy of the weights; "auto": CUDA's first device, or, where there is none, or the
     * model does not fit, the CPU, and the log gets a warning that says why. With another
     * device, as with other kernels, the same weights may say something else: bits are the same
     * within one. */
    const char *device;
    /* On a device: the most of long prompts is read in pieces of 512 tokens, with products by
     * cuBLAS, which may be faster. What is read so has other last bits than the same text read
     * narrowly or decoded; where the pieces begin depends on the session's own tokens alone, so
     * drafts still change nothing. Takes device memory for the largest matrix in 16 bits. The
     * CPU does not look at it. */
    bool wide_prefill;
    /* NULL, or how the last stage reaches the others; read by ftk_engine_open() alone, but for
     * ctx. The model was loaded as that stage; the device is the CPU. Drafters that leave layers
     * out (dash) can't be used. Where a stage is lost, steps end with DEVICE. */
    const ftk_link *link;
} ftk_engine_config;

FTK_API void ftk_engine_config_fill(ftk_engine_config *cfg, size_t size);
static inline void ftk_engine_config_init(ftk_engine_config *cfg)
{
    ftk_engine_config_fill(cfg, sizeof *cfg);
}
/* The model must outlive the engine. Memory for all later passes is taken here. Errors: NOMEM,
 * INVALID, DEVICE (none there, or not usable), UNSUPPORTED (a build without CUDA; a cache in
 * Q8_0 for heads that are no multiple of 32). */
FTK_API ftk_err ftk_engine_open(ftk_engine **out, const ftk_model *m, const ftk_engine_config *cfg);
FTK_API void ftk_engine_free(ftk_engine *e);

/* How full an engine is, and what it takes, in bytes. */
typedef struct ftk_engine_stats {
    /* The KV cache: pages of page_tokens tokens each. A session takes a page with the first token
     * that is cached in it, and gives it back when it is cut or freed; forks share whole ones. */
    uint64_t page_tokens, kv_pages, kv_pages_free;
    uint64_t kv_bytes;   /* the whole cache, on the device if there is one */
    uint64_t work_bytes; /* of the host, for passes; for the most part max_rows rows of logits */
    uint64_t copy_bytes; /* the copy of the layers in few bits for DASH; 0 until it is made */
    /* Those that are open, and what they take together, as ftk_stats.bytes has it. */
    uint64_t sessions, session_bytes;
    uint64_t draft_bytes; /* draft models and heads of others: weights, caches, work space */
} ftk_engine_stats;

/* size: the caller's sizeof *stats; what it does not cover is left out. Between steps. */
FTK_API void ftk_engine_report(const ftk_engine *e, ftk_engine_stats *stats, size_t size);
static inline void ftk_engine_get_stats(const ftk_engine *e, ftk_engine_stats *stats)
{
    ftk_engine_report(e, stats, sizeof *stats);
}
/* The same of an engine that is not open yet, with nothing in its cache; nothing is taken. What a
 * device wants beside its cache, the weights among it, is not counted. Errors: INVALID,
 * UNSUPPORTED. */
FTK_API ftk_err ftk_engine_estimate(const ftk_model *m, const ftk_engine_config *cfg,
                                    ftk_engine_stats *stats, size_t size);
FTK_API int ftk_engine_threads(const ftk_engine *e);
/* "cpu", or "cuda:0 " and the device's own name; lives as long as the engine. */
FTK_API const char *ftk_engine_device(const ftk_engine *e);
/* Measured seconds of a pass over rows rows (1..128) on an empty sequence. */
FTK_API double ftk_engine_cost(const ftk_engine *e, int rows);

/* Adds the trained weights of a drafter, a GGUF file of the architecture foretoken-drafter:
 * sessions opened from now on may draft with its family (s4c, firp, dash). Or a head of EAGLE-3,
 * DFlash, DSpark or Medusa (eagle3, dflash, dspark, medusa), as its makers publish it: a folder
 * with config.json and safetensors (of EAGLE, SpecForge, speculators and others), one safetensors
 * file with config.json beside it, or llama.cpp's GGUF; what was found in it is said (INFO).
 * Nothing in such files says for which model they were trained but sizes. One of each family.
 * Errors: those of ftk_gguf_open(); INVALID (no drafter's file, trained for another model, a second
 * one of its family), FORMAT, UNSUPPORTED, NOMEM, DEVICE. Heads draft on the CPU also where a
 * device runs the model. */
FTK_API ftk_err ftk_engine_add_drafter(ftk_engine *e, const char *path);
typedef struct ftk_drafter_config {
    size_t size;
    /* Of a head that reads states: the layers whose entering states those are, 0 to the number of
     * layers, which is what the last one leaves, in the order of its fc; instead of what its
     * file says or, where it does not, of 2, half of them and all but 3. Files disagree on what
     * their numbers mean; wrong ones lower acceptance, and nothing else. 0: the file's. Read by
     * ftk_engine_add_drafter_as() alone. */
    const int *layers;
    size_t n_layers;
} ftk_drafter_config;

FTK_API void ftk_drafter_config_fill(ftk_drafter_config *cfg, size_t size);
static inline void ftk_drafter_config_init(ftk_drafter_config *cfg)
{
    ftk_drafter_config_fill(cfg, sizeof *cfg);
}

/* ftk_engine_add_drafter() with more to say; cfg NULL: nothing. Errors: also INVALID (such
 * layers as the model does not have, or for a drafter that reads none). */
FTK_API ftk_err ftk_engine_add_drafter_as(ftk_engine *e, const char *path,
                                          const ftk_drafter_config *cfg);
/* Adds a small model that drafts: sessions opened from now on may do so with the drafter
 * "draft-model". It is a GGUF file of any model that ftk_model_load() takes, of this model's own
 * vocabulary: a smaller one of its family, or a copy of it in fewer bits. Vocabularies may
 * differ in padding at their end ("[PAD...]", unused tokens), and in nothing else. It runs on
 * the CPU, with the engine's threads, and takes memory for its weights, for a KV cache of
 * kv_slots tokens and for passes. Of each session it reads what the session's own model reads,
 * which takes time with prompts, too. It drafts what it finds likeliest; above temperature 0,
 * with the verifiers "reject" and "traversal", it draws its drafts by the session's temperature,
 * top_k, top_p and min_p. One for an engine. Errors: those of ftk_model_load(); INVALID (another
 * vocabulary: the log names the first token that differs; a second one), NOMEM. */
FTK_API ftk_err ftk_engine_add_draft_model(ftk_engine *e, const char *path);
/* What was found in the file of a drafter that others have made (eagle3, dflash, dspark, medusa):
 * which states it reads, how many tokens it knows, its norms; one line, for people. NULL: it says
 * nothing, or there is none. Lives as long as the engine. */
FTK_API const char *ftk_engine_drafter_about(const ftk_engine *e, const char *drafter);
/* Whether sessions of this engine may draft with it: true for none and what needs no file, for a
 * family whose file was added, and for "draft-model" once there is one. */
FTK_API bool ftk_engine_has_drafter(const ftk_engine *e, const char *drafter);
/* Adds all *.drafter.gguf in the folder of the file `beside` (the model's, say) that were
 * trained for this model, by name, one of each family that has none yet; *n_found gets their
 * number. What is odd about a file that nobody named is no error: it is left out, the log gets a
 * warning that says why, and ftk_session_open() says it again where a drafter is asked for that
 * it might have been. Drafters for another model, and second ones of a family, are passed over
 * (INFO). Always OK. */
FTK_API ftk_err ftk_engine_find_drafters(ftk_engine *e, const char *beside, int *n_found);

/* Sum of the natural logarithms of the probabilities the model gives tokens[1..n), each after all
 * before it; for perplexity. n is 1 to the engine's KV slots. Errors: INVALID, NO_ROOM (the KV
 * cache is held by sessions), NUMERIC, DEVICE, NOMEM. */
FTK_API ftk_err ftk_score(ftk_engine *e, const int32_t *tokens, size_t n, double *log_prob);
/* The model's logits behind each of tokens[from..n), as they are before anything of
 * ftk_sampling: n - from rows of n_vocab, the one at i for what follows tokens[0..from + i]. All
 * n tokens are read, n is 1 to the engine's KV slots, and from at most n. Errors: those of
 * ftk_score(), but for NUMERIC: values that are not finite are handed out as they are. */
FTK_API ftk_err ftk_logits(ftk_engine *e, const int32_t *tokens, size_t n, size_t from,
                           float *logits);

/* ------------------------------------------------------------------ session */

/* How a token is drawn. What is on works on the model's logits in this order: repeat_penalty;
 * frequency_penalty and presence_penalty; biases (ftk_session_set_bias()); what may not come at
 * all, by min_tokens and ftk_session_set_mask(); then temperature, top_k, top_p, min_p. Generated
 * tokens are those that stand behind the prompt, see ftk_session_set_prompt(). The token at a place
 * depends on this struct, on the tokens before it and on where the prompt ends, alone. */
typedef struct ftk_sampling {
    float temperature;    /* 0: greedy (ties to the lowest id) */
    int top_k;            /* the so many likeliest; 0: off */
    float top_p;          /* (0, 1]; the fewest likeliest that have this share together; 1: off */
    float min_p;          /* [0, 1); those of at least this share of the likeliest's; 0: off */
    float repeat_penalty; /* > 0; 1: off; logits of the last repeat_last tokens are divided by it
                             where positive, multiplied where negative */
    int repeat_last;      /* default 64 */
    uint64_t seed;        /* random numbers depend on seed and position alone */
    /* As OpenAI defines them, of any finite value, there from -2 to 2; 0: off. From the logit of
     * each token that was generated, prompts do not count, presence_penalty is taken once, and
     * frequency_penalty as often as it was. */
    float presence_penalty, frequency_penalty;
    /* Until so many are generated, no token that ends an answer comes: none of the model's,
     * whatever ignore_end says, and none of ftk_session_set_ends(); 0: off. */
    uint64_t min_tokens;
    uint64_t reserved[2]; /* 0; for what is to come, as this struct lies within others */
} ftk_sampling;

/* Added to a token's logit. */
typedef struct ftk_bias {
    int32_t token;
    float bias; /* any finite value; OpenAI's go from -100, which all but forbids, to 100 */
} ftk_bias;

typedef enum ftk_tree_shape {
    FTK_TREE_FITTED, /* best-first by measured acceptance, sized by the cost model */
    FTK_TREE_PAPER,  /* as the drafter's paper has it (jacobi's tree, firp's fused rows), whole */
    FTK_TREE_CHAIN,  /* the likeliest path alone, sized by the cost model */
} ftk_tree_shape;

typedef struct ftk_session ftk_session;

typedef struct ftk_session_config {
    size_t size;
    const char *drafter;  /* "auto" (default), or another of ftk_drafters() */
    const char *verifier; /* "exact" (default), "reject", "traversal", "typical" */
    int budget;           /* most drafted nodes a step, 0..127; -1: the cost model decides */
    ftk_tree_shape shape;
    int n_ctx;       /* most tokens of this session; 0: all of the engine's KV cache */
    bool ignore_end; /* go on after an end token */
    ftk_sampling sampling;
} ftk_session_config;

FTK_API void ftk_session_config_fill(ftk_session_config *cfg, size_t size);
static inline void ftk_session_config_init(ftk_session_config *cfg)
{
    ftk_session_config_fill(cfg, sizeof *cfg);
}

/* NULL-terminated names. Of the drafters, "dash-direct" is LOSSY: it drafts nothing, but skips
 * layers of the model where its policy finds that they matter little, and emits what comes of
 * it. Changing from it to another one has what it emitted read again, by the whole model.
 * Verifiers:
 *  - "exact" (lossless): each token is sampled as in plain decoding, and drafts are kept as far as
 *    they agree. The only one whose seeded output is plain decoding's, token for token.
 *  - "reject", "traversal" (lossless): rejection sampling from the root down, or from the leaves
 *    up, for drafters that draw their guesses by chance and say from which distribution; of
 *    those they accept more. "draft-model" does so with them; for what other drafters guess
 *    nothing lossless accepts more than "exact" on average. Above temperature 0 the output has
 *    the distribution of plain decoding, not its tokens: with a seed it depends on the drafts
 *    too, and drafts that the cost model sizes (budget -1) depend on measured times, so it may
 *    differ from run to run.
 *  - "typical" (LOSSY): guesses that are likely enough are kept. Above temperature 0 the output has
 *    another distribution than the model's.
 * All of them judge by the processed distribution, see ftk_sampling. */
FTK_API const char *const *ftk_drafters(void);
FTK_API const char *const *ftk_verifiers(void);
/* False for lossy and for unknown ones. Show it wherever results are shown. */
FTK_API bool ftk_verifier_lossless(const char *verifier);
FTK_API bool ftk_drafter_lossless(const char *drafter);

/* Opens a session; everything its steps need is taken here. Errors: INVALID (a value out of its
 * range, an unknown drafter or verifier, a drafter whose file was not added), UNSUPPORTED (a
 * reserved field is set), NOMEM, DEVICE. */
FTK_API ftk_err ftk_session_open(ftk_session **out, ftk_engine *e, const ftk_session_config *cfg);
/* What such a session would take, see ftk_stats.bytes: found by opening one, which is freed again.
 * Errors: those of ftk_session_open(); *bytes is 0 then. */
FTK_API ftk_err ftk_session_estimate(ftk_engine *e, const ftk_session_config *cfg, uint64_t *bytes);
/* A second session that goes on from the same tokens. Whole cached pages are shared, not copied.
 * sampling: its own, or NULL for that of s; with the same seed both say the same. So n forks with
 * seeds of their own are n completions of one prompt, which is read once. Errors: INVALID,
 * UNSUPPORTED (as ftk_session_set_sampling()), NOMEM. */
FTK_API ftk_err ftk_session_fork(ftk_session **out, ftk_session *s, const ftk_sampling *sampling);
FTK_API void ftk_session_free(ftk_session *s);

/* Adds tokens of a prompt; nothing is computed before the next step. Errors: INVALID (an id out of
 * range), CONTEXT (they do not fit; nothing was added). */
FTK_API ftk_err ftk_session_append(ftk_session *s, const int32_t *tokens, size_t n);
/* Keeps the first n tokens. Errors: INVALID when n is above the length. */
FTK_API ftk_err ftk_session_truncate(ftk_session *s, size_t n);
/* Prompt and answer so far, as cached or still to read; *n gets their number. Valid until the
 * session is appended to, stepped, truncated or freed. */
FTK_API const int32_t *ftk_session_tokens(const ftk_session *s, size_t *n);
FTK_API size_t ftk_session_context(const ftk_session *s); /* the n_ctx in force */
/* At most n more tokens are emitted, then finish is LIMIT. The default is no limit. */
FTK_API void ftk_session_limit(ftk_session *s, size_t n);
/* Says where the prompt ends: what stands behind the first n tokens counts as generated.
 * ftk_session_append() does so by itself, for all tokens there then are; this is for who appends
 * tokens that a session said before. A fork keeps it. Errors: INVALID (n is above the length). */
FTK_API ftk_err ftk_session_set_prompt(ftk_session *s, size_t n);

/* The settings below are changed between steps, and are in force from the next token on. What comes
 * is what a session with those settings says that was opened on the same tokens, with its prompt's
 * end at the same place. Lists are copied; an empty one takes the last one back. A fork keeps all
 * of them. After an error everything stays as it was. */

/* Errors: INVALID (a value out of its range), UNSUPPORTED (a reserved field is set), NOMEM. */
FTK_API ftk_err ftk_session_set_sampling(ftk_session *s, const ftk_sampling *sampling);
/* Biases of n tokens, each named once. Errors: INVALID (no such token, one that is named twice, a
 * bias that is not finite), NOMEM. */
FTK_API ftk_err ftk_session_set_bias(ftk_session *s, const ftk_bias *biases, size_t n);
/* Further tokens that end an answer, each emitted as its last one, beside those of the model and
 * whatever ignore_end says. Errors: INVALID (no such token), NOMEM. */
FTK_API ftk_err ftk_session_set_ends(ftk_session *s, const int32_t *tokens, size_t n);

/* Says what may come next, for output that has to have a form: of allowed, (n_vocab + 31) / 32
 * words that are 0, it sets bit token % 32 of word token / 32 for each token that may follow
 * tokens[0..n). These are the session's and, behind them, those on the way to a place of a
 * draft, so that n is its length or more; they are valid during the call. It is called by
 * ftk_step() alone, on the thread that called that, in a step several times, for places in any
 * order and for some of them again: the answer must depend on the tokens alone. It may not call
 * functions of this engine and its sessions, but for ftk_session_tokens(). */
typedef void ftk_mask(void *ctx, const int32_t *tokens, size_t n, uint32_t *allowed);
/* The hook is asked before each token; NULL: no longer. Where it allows one token alone, a
 * session that drafts takes that for its draft, whoever its drafter is. Where it allows nothing,
 * or nothing is left of it by min_tokens, finish is FORBIDDEN. A fork calls the same hook, with
 * the same ctx. Errors: NOMEM. */
FTK_API ftk_err ftk_session_set_mask(ftk_session *s, ftk_mask *mask, void *ctx);

/* Says what the host thinks will follow tokens[0..n): at most `most` tokens in guesses, each
 * behind the one before. Returns how many, 0: nothing. Called as ftk_mask is. */
typedef size_t ftk_forecast(void *ctx, const int32_t *tokens, size_t n, int32_t *guesses,
                            size_t most);
/* A session that drafts takes such guesses for its draft while most of them are right, whoever
 * its drafter is: of a text that will be repeated with changes, say, or of what the form of an
 * answer leaves no choice of. They change nothing of what comes. NULL: no longer. A fork has
 * none. Always OK. */
FTK_API ftk_err ftk_session_set_forecast(ftk_session *s, ftk_forecast *hook, void *ctx);

enum { FTK_MAX_LOGPROBS = 20 };

typedef struct ftk_logprob {
    int32_t token; /* -1: the vocabulary is smaller than that */
    float logprob;
} ftk_logprob;

/* Keeps log-probabilities of the tokens that come from now on: natural logarithms of the softmax of
 * the model's own logits, as if nothing of ftk_sampling and of the settings above were there.
 * n_best: -1, none, as it is at first; or 0 to FTK_MAX_LOGPROBS likeliest tokens of each place
 * beside the one that stands there. prompt: also of prompts, as they are read; what is cached
 * already, of a fork say, is not read again, and the first token has none. What was kept before is
 * forgotten. They are the same with any drafter, and on the CPU have the bits of any other pass
 * over the same text. They take 4 + 8 * n_best bytes for each token of the session's context, and
 * time for a softmax a token; a prompt so read takes the output matrix for each of its rows. On a
 * device rows are then read on the host, which above temperature 0 draws other tokens of the same
 * distribution, as it does for penalties and biases; and wide_prefill is not used for such prompts.
 * A fork keeps its origin's, and goes on so. Errors: INVALID, NOMEM (what was stays). */
FTK_API ftk_err ftk_session_set_logprobs(ftk_session *s, int n_best, bool prompt);
/* Of the token at a place, counted from 0 as in ftk_session_tokens(): *own, and in *best (which may
 * be NULL) the n_best likeliest there, likeliest first, ties by the lower id; valid until the
 * session's next call. The tokens of a step stand at its last n_tokens places. False: none is
 * known, nothing is written. */
FTK_API bool ftk_session_logprobs(const ftk_session *s, size_t place, float *own,
                                  const ftk_logprob **best);

/* Changes the drafter between steps. Errors: INVALID, NOMEM, DEVICE (the old one stays). */
FTK_API ftk_err ftk_session_set_drafter(ftk_session *s, const char *drafter);

typedef enum ftk_finish {
    FTK_FINISH_NONE,
    FTK_FINISH_END,       /* the last emitted token ends the answer */
    FTK_FINISH_LIMIT,     /* ftk_session_limit() is reached */
    FTK_FINISH_CONTEXT,   /* the context is full */
    FTK_FINISH_FORBIDDEN, /* no token may follow, see ftk_session_set_mask(); n_tokens may be 0 */
} ftk_finish;

typedef struct ftk_result {
    ftk_err err; /* of this session alone */
    ftk_finish finish;
    const int32_t *tokens; /* emitted by this step; valid until the session's next call */
    size_t n_tokens;       /* 0 while a long prompt is still being read */
    int drafted;           /* nodes verified in this step */
    int accepted;          /* of them, accepted; the first `accepted` tokens were drafted */
} ftk_result;

/* One turn of the loop for n sessions of one engine, in as few passes as fit max_rows: a pass takes
 * sessions in the order given, 64 at most, as long as there are rows for the next one. A session
 * with unread prompt tokens takes up to 128 (512 with wide_prefill) of the rows and free pages that
 * are left, one that has read them all wants one, and as many more as it is told to draft; with
 * budget -1 drafts share what rows are left, as many as make the whole pass give more tokens a
 * second. Such a session emits at least one token, unless finish says why not, or it waits, see
 * below. A call is bounded by that. It cannot be stopped halfway; an answer that is no longer
 * wanted is not stepped again, and freed or truncated between calls. results[i] belongs to
 * sessions[i]. A session that has finished may be stepped again: that goes on behind its last
 * token. Returns the first error of any session: INVALID (an empty session, sessions of two
 * engines, one given twice), NO_ROOM (other sessions hold the KV cache: step again once some are
 * freed or truncated), CONTEXT (it is too small for this session alone), NUMERIC, DEVICE (the GPU
 * has failed: the engine is of no more use). After an error a session keeps its committed tokens
 * and can be stepped again, truncated or freed. Drafts take only what is left of the KV cache.
 * Where that runs short, a session that drafts have brought ahead of the others may wait for them:
 * it emits nothing and finish is NONE, for at most as many steps as it is tokens ahead. So of
 * sessions that are stepped together or in turn each gets NO_ROOM where it would with "none", as
 * far as they are there from the start: one that comes later finds what those before it have filled
 * by then, which with drafts is more. */
FTK_API ftk_err ftk_step(ftk_session *const *sessions, size_t n, ftk_result *results);

enum { FTK_MAX_NODES = 128 };

typedef struct ftk_stats {
    uint64_t steps; /* decoding steps; those that only read a prompt do not count */
    uint64_t emitted, drafted, accepted;
    uint64_t prompt; /* prompt tokens read */
    double prefill_seconds, decode_seconds;
    /* Parts of decode_seconds. Time of a pass that several sessions shared counts for each of them.
     * */
    double draft_seconds, forward_seconds, judge_seconds;
    uint64_t accepted_at[FTK_MAX_NODES]; /* [d]: steps whose accepted path reached depth d + 1 */
    /* As it is now: memory that the session has taken, beside its pages of the KV cache, in bytes;
     * those pages, shared ones too; its tokens, and how many more its context has room for. */
    uint64_t bytes, kv_pages, tokens, room;
} ftk_stats;

/* Fills the first `size` bytes, which a caller built with an older header has fewer of. */
FTK_API void ftk_session_report(const ftk_session *s, ftk_stats *stats, size_t size);
static inline void ftk_session_get_stats(const ftk_session *s, ftk_stats *stats)
{
    ftk_session_report(s, stats, sizeof *stats);
}

/* How a drafter has fared in this session since it was chosen. */
typedef struct ftk_drafter_stats {
    const char *name;
    uint64_t steps, emitted; /* steps whose draft was its own to make, none included */
    double speed; /* of late, tokens for the estimated cost of a plain step; 0: unknown */
} ftk_drafter_stats;

/* Of the drafter at work: with "auto" the first of s4c, eagle3, dspark, dflash, medusa,
 * draft-model, firp whose file was added; else of those that were found for the model; else
 * "recycle". Returns how many were written, at most `most`: 1, or 0 with "none". */
FTK_API size_t ftk_session_drafter_stats(const ftk_session *s, ftk_drafter_stats *out, size_t most);

#ifdef __cplusplus
}
#endif
#endif
