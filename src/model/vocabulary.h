/* SPDX-License-Identifier: Apache-2.0
 * What the parts of the tokenizer share: the vocabulary as it is read from a file and kept, and
 * what one kind of vocabulary has to bring. */
#ifndef FTK_VOCABULARY_H
#define FTK_VOCABULARY_H

#include "model/tokenizer.h"
#include "template/template.h"

/* tokenizer.ggml.token_type; SentencePiece uses the same numbers. */
enum {
    FTK_TOKEN_NORMAL = 1,
    FTK_TOKEN_UNKNOWN,
    FTK_TOKEN_CONTROL,
    FTK_TOKEN_USER_DEFINED,
    FTK_TOKEN_UNUSED,
    FTK_TOKEN_BYTE
};

enum {
    FTK_MAX_PIECE = 4096, /* bytes of one token: libsentencepiece recurses over an unused one */
    FTK_MAX_ENDS = 24     /* tokens that end an answer */
};

typedef struct ftk_piece {
    const char *p; /* in ftk_tokenizer.text: what the token stands for, its name if it is CONTROL */
    uint32_t n;
    uint8_t type;
    bool shadowed; /* text becomes another token that has the same text */
    bool strips;   /* takes the white space behind it in text with control tokens */
} ftk_piece;

/* Tokens in the order of their texts' bytes. */
typedef struct ftk_key {
    const char *p;
    uint32_t n;
    int32_t id;
} ftk_key;

typedef struct ftk_keys {
    ftk_key *v;
    size_t n;
} ftk_keys;

/* Sorts the keys. Of those with equal texts one stays, which it is that text becomes: a
 * user-defined token rather than a normal one, a control token only if there is no other, else
 * the last one, as in llama.cpp's table. The others are shadowed. */
void ftk_keys_settle(ftk_keys *keys, ftk_piece *pieces);
int ftk_keys_compare(const ftk_key *a, const ftk_key *b);
/* The id of the key that is this very text, or -1. */
int32_t ftk_keys_find(const ftk_keys *keys, const char *p, size_t n);
/* The id of the longest key that the n bytes at p start with, and its length; -1 if none. */
int32_t ftk_keys_longest(const ftk_keys *keys, const char *p, size_t n, size_t *len);

typedef struct ftk_vocab ftk_vocab;

/* One kind of vocabulary, by its name in tokenizer.ggml.model. */
typedef struct ftk_vocab_kind {
    const char *name;
    bool needs_scores;
    bool adds_bos;    /* where the file does not say */
    bool adds_prefix; /* the same for the space in front */
    bool finds_user;  /* encode() itself finds user-defined tokens in text */
    bool marks_space; /* a space inside a piece is U+2581 */
    /* Further checks, and all that encode() needs; pieces become what they stand for. */
    ftk_err (*open)(ftk_vocab *v);
    void (*free)(ftk_tokenizer *t);
    /* n > 0 bytes of valid UTF-8, without control tokens, onto the end of a list. */
    ftk_err (*encode)(const ftk_tokenizer *t, const char *text, size_t n, ftk_tokens *list);
} ftk_vocab_kind;

/* A chat template of the file. */
typedef struct ftk_own_chat {
    char *name;      /* "default", or the name it has in the file */
    ftk_template *t; /* NULL where it cannot be read */
    ftk_err err;     /* why not */
    ftk_template_error error;
} ftk_own_chat;

extern const ftk_vocab_kind ftk_vocab_spm, ftk_vocab_bpe;

#define FTK_SPACE_MARK "\xE2\x96\x81" /* U+2581 */

struct ftk_tokenizer {
    ftk_host host;
    const ftk_vocab_kind *kind;
    void *state;       /* of the kind */
    ftk_piece *pieces; /* [n_vocab] */
    char *text;
    ftk_keys specials;     /* CONTROL, UNKNOWN and USER_DEFINED */
    ftk_keys user;         /* USER_DEFINED alone, unless the kind finds them itself */
    int32_t byte_ids[256]; /* -1 where the vocabulary has no token for a byte */
    int32_t ends[FTK_MAX_ENDS];
    size_t n_ends;
    int n_vocab;
    int32_t bos, eos, eot, unknown, padding; /* -1: none */
    bool add_bos, add_eos, add_prefix;
    bool squeezes; /* encode() makes one space of several, and puts the one in front itself */
    ftk_own_chat *chats;
    size_t n_chats;
};

/* A vocabulary while it is read. */
struct ftk_vocab {
    const ftk_gguf *g;
    const char *path; /* for messages */
    ftk_tokenizer *t;
    ftk_gguf_value tokens, scores, types; /* data is NULL where a list is missing */
    ftk_keys keys;                        /* all tokens with a text, by text as in the file */
    size_t text_size;                     /* of all tokens together */
};

/* The control or user-defined token with this very text, or -1. */
int32_t ftk_tokenizer_special(const ftk_tokenizer *t, const char *text, size_t n);

/* What is odd in a vocabulary, but no reason to refuse it: how often, and where it is first. */
typedef struct ftk_oddity {
    size_t n, first;
} ftk_oddity;

void ftk_oddity_count(ftk_oddity *o, size_t where);

/* Reads the tokens, their types and texts, and checks what holds for all kinds. */
ftk_err ftk_vocab_read(ftk_vocab *v);
/* Control tokens by name and by key, ends, BOS and the rest, after the kind's open(). */
ftk_err ftk_vocab_settle(ftk_vocab *v);

/* Tokens of some types, a sum of 1 << FTK_TOKEN_, by their texts, as ftk_keys_settle() leaves them.
 * Errors: NOMEM. */
ftk_err ftk_vocab_collect(const ftk_vocab *v, unsigned types, ftk_keys *keys);

/* As ftk_fail() and ftk_log(), with the file's path in front. */
ftk_err ftk_vocab_fail(const ftk_vocab *v, ftk_err err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void ftk_vocab_warn(const ftk_vocab *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* An array of one element type; I32 takes U32 as well. Errors: FORMAT, also if it is missing. */
ftk_err ftk_vocab_array(const ftk_vocab *v, const char *key, ftk_gguf_type elem,
                        ftk_gguf_value *value);
/* A token id; *id stays as it is where the key is not there, or names no token, which is said. */
ftk_err ftk_vocab_id(const ftk_vocab *v, const char *key, int32_t *id);
/* The same for a bool. */
ftk_err ftk_vocab_bool(const ftk_vocab *v, const char *key, bool *b);
/* Whether a token's text is a name that nobody writes by chance: <unk>, [UNK], <|placeholder1|>. */
bool ftk_vocab_is_name(const ftk_piece *p);
/* The value of a byte token's name, "<0x00>" to "<0xFF>", or -1. */
int ftk_vocab_byte(const ftk_piece *p);

#endif
