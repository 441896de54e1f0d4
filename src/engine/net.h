/* SPDX-License-Identifier: Apache-2.0
 * Draft models (base/draftmodel.h): what an engine has of one, and a session. They run on the CPU, with the
 * engine's threads. */
#ifndef FTK_NET_H
#define FTK_NET_H

#include "base/draftmodel.h"
#include "model/forward.h"

/* Of an engine. */
typedef struct ftk_net {
    ftk_model *model; /* its own */
    ftk_forward forward;
    ftk_kv_pool pool;
} ftk_net;

/* Of a session. */
typedef struct ftk_net_seq {
    ftk_net *net;
    ftk_draft_model as_seen; /* by the drafter */
    ftk_kv_seq kv;           /* of the text what was read */
    int n_rows;              /* that were run behind it, in the slots behind kv.len */
    int16_t depth[FTK_MAX_NODES];
    uint64_t mask[FTK_MAX_NODES][2];
} ftk_net_seq;

/* A small model of the target's vocabulary; slots: of its cache. team, target and host outlive it. Errors:
 * those of ftk_model_load(), INVALID (another vocabulary), NOMEM. */
ftk_err ftk_net_open(ftk_net **out, const char *path, const ftk_model *target, ftk_team *team,
                     int slots, ftk_type kv_type);
void ftk_net_free(ftk_net *net, const ftk_host *host);
/* Bytes that it has taken. */
uint64_t ftk_net_bytes(const ftk_net *net);

/* n_ctx: most tokens of the session. n_vocab: the target's. Errors: NOMEM. */
ftk_err ftk_net_seq_open(ftk_net_seq **out, ftk_net *net, int n_ctx, int n_vocab,
                         const ftk_host *host);
void ftk_net_seq_free(ftk_net_seq *seq, const ftk_host *host);
/* The text was cut to its first n tokens. */
void ftk_net_seq_truncate(ftk_net_seq *seq, size_t n);
/* dst, just opened, has read what src has. */
void ftk_net_seq_fork(ftk_net_seq *dst, const ftk_net_seq *src);

#endif
