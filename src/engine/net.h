/* SPDX-License-Identifier: Apache-2.0
 * Draft models (base/draftmodel.h): what an engine has of one, and a session. They run on the
 * CPU, with the engine's threads. A small model reads tokens alone. Rows of a head begin with
 * states of the target, which are handed to it as passes leave them. */
#ifndef FTK_NET_H
#define FTK_NET_H

#include "base/draftmodel.h"
#include "base/meter.h"
#include "base/target.h"
#include "model/forward.h"
#include "model/headfile.h"

enum { FTK_NET_WAITING = 64 };

/* Of an engine. */
typedef struct ftk_net {
    ftk_meter meter;
    ftk_host host;          /* the engine's, metered: all that it takes comes from it */
    const ftk_model *target;
    const ftk_model *model; /* what runs: of the one below that it has */
    ftk_model *small;
    ftk_headfile *head;
    int tap[FTK_HEAD_TAPS]; /* of a head: where its states lie among those that passes leave */
    ftk_forward forward;
    ftk_kv_pool pool;
    const ftk_clock *clock; /* the engine's; NULL: there is none */
    /* Of a head, of the rows of a pass: */
    float *normed; /* [FTK_NET_WAITING][taps * n_embd] states of the target */
    float *first;  /* [FTK_NET_WAITING][width] what fc makes of them */
    float *begin;  /* [FTK_NET_WAITING][width] what drafted rows begin with */
    /* Of one that says all places at once: net_block.c. */
    float *said;   /* [FTK_NET_WAITING][stride] of rows */
    float *markov; /* [FTK_NET_WAITING][rank] */
    int16_t block_depth[FTK_CONFIG_BLOCK];
    uint64_t block_mask[FTK_CONFIG_BLOCK][2];
} ftk_net;

/* Of a session. */
typedef struct ftk_net_seq {
    ftk_net *net;
    ftk_draft_model as_seen;  /* by the drafter */
    const ftk_target *target; /* of a head */
    ftk_kv_seq kv; /* of the text what was read; row i of a head that of token base + i */
    int n_rows;    /* that were run behind it, in the slots behind kv.len */
    int16_t depth[FTK_MAX_NODES];
    uint64_t mask[FTK_MAX_NODES][2];
    /* Of a head: */
    size_t base;
    int n_waiting;  /* states that were not read yet: of tokens base + kv.len and so on */
    float *waiting; /* [FTK_NET_WAITING][taps * n_embd] */
    float *left;    /* [width] what the text's last row left, for those behind it */
    float *states;  /* [FTK_MAX_NODES][width] the same of rows that were run */
    /* Of one that says all places at once: net_block.c. */
    int read;       /* Medusa: states that were looked at, in place of kv.len */
    size_t left_of; /* Medusa: the token behind the one whose feature `left` is */
    int n_places;
    float *places; /* [depths][stride] what it says of each, without a Markov head */
} ftk_net_seq;

/* A small model of the target's vocabulary; slots: of its cache. team and target outlive it. Who
 * could stop the target's load can stop this one. Errors: those of ftk_model_load(), INVALID
 * (another vocabulary), NOMEM. */
ftk_err ftk_net_open_small(ftk_net **out, const char *path, const ftk_model *target, ftk_team *team,
                           int slots, ftk_type kv_type);
/* A head; layers [n_layers]: see ftk_headfile_open(). host outlives it, as does f: the target's
 * passes, which leave states for it from now on. Errors: those of ftk_headfile_open(),
 * UNSUPPORTED. */
ftk_err ftk_net_open_head(ftk_net **out, const char *path, ftk_forward *f, const int *layers,
                          int n_layers, int slots, ftk_type kv_type, const ftk_host *host);
void ftk_net_free(ftk_net *net);

/* n_ctx: most tokens of the session. target: as its drafters see it; it outlives the sequence.
 * Errors: NOMEM. */
ftk_err ftk_net_seq_open(ftk_net_seq **out, ftk_net *net, int n_ctx, const ftk_target *target,
                         const ftk_host *host);
void ftk_net_seq_free(ftk_net_seq *seq, const ftk_host *host);
/* ---- for net_block.c */

/* Memory of a head that says all places at once, and of a session. Errors: NOMEM. */
ftk_err ftk_net_open_blocks(ftk_net *net);
ftk_err ftk_net_seq_open_blocks(ftk_net_seq *s, const ftk_host *host);
/* Runs its layers; makes keys and values of states alone. */
void ftk_net_pass(ftk_net *net, const ftk_pass_seq *seqs, int n);
void ftk_net_store_states(ftk_net *net, const ftk_pass_seq *seqs, int n);
/* Room for n rows behind the text; false: there is none. */
bool ftk_net_reserve(ftk_net_seq *s, int n);
/* States that can be read of a text of n tokens. */
int ftk_net_readable(const ftk_net_seq *s, size_t n);
/* The first n states that wait, normed, from row `at` of net->normed on. */
void ftk_net_gather(ftk_net_seq *s, int n, int at);
/* What n rows that were gathered become: fc of them, or they themselves where there is none. */
const float *ftk_net_fuse(const ftk_net *net, const ftk_target *t, int n);
/* DFlash: keys and values of the first n states that wait; false: there is no room. */
bool ftk_net_store(ftk_net_seq *s, int n);
/* The first n are read. */
void ftk_net_forget(ftk_net_seq *s, int n);

/* ---- */

/* The text was cut to its first n tokens. */
void ftk_net_seq_truncate(ftk_net_seq *seq, size_t n);
/* dst, just opened, has read what src has. */
void ftk_net_seq_fork(ftk_net_seq *dst, const ftk_net_seq *src);
/* A pass of the target has left states of the token at `place`, row `row` of all of its rows, of
 * which text[0..n) is what is known now. Of a small model nothing. */
void ftk_net_seq_see(ftk_net_seq *seq, const int32_t *text, size_t n, size_t place,
                     const ftk_forward *f, size_t row);

#endif
