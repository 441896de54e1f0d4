/* SPDX-License-Identifier: Apache-2.0
 * Engine and session, as their own files and the tests see them. */
#ifndef FTK_SESSION_H
#define FTK_SESSION_H

#include "base/meter.h"
#include "cost.h"
#include "drafters/drafter.h"
#include "model/device.h"
#include "model/drafterfile.h"
#include "model/forward.h"
#include "model/lowbit.h"
#include "model/stages.h"
#include "net.h"
#include "verifiers/verifier.h"

/* Tokens emitted of late, whoever drafted, and what the steps cost in plain steps; the past
 * fades. */
typedef struct ftk_pace {
    double tokens, spent;
} ftk_pace;

/* What is measured of a drafter while it drafts. */
typedef struct ftk_measured {
    double seconds;       /* what proposing costs, smoothed */
    double tokens, spent; /* emitted in its steps, and their cost in plain steps; the past fades */
} ftk_measured;

/* What the sessions of an engine learn of a drafter together. */
typedef struct ftk_learned {
    ftk_measured measured;
    void *rates; /* [rates_size of its ops]; NULL when that is 0 */
} ftk_learned;

/* A drafter at work in a session. */
typedef struct ftk_family {
    const ftk_drafter_ops *ops;
    void *state;
    ftk_measured *measured; /* the engine's, or, of a drafter of the tests, own.measured */
    ftk_learned own;
    int idle;      /* steps since drafting last paid, while it does not */
    double saving; /* credit without which a draft is not tried again */
    int reach;     /* nodes asked for, while the cost model decides: some more than paid lately */
    uint64_t steps, emitted;
} ftk_family;

/* A drafter's file that was found, and is not used. */
typedef struct ftk_left_out {
    int family;     /* -1: it does not say */
    char line[512]; /* why, its path first */
} ftk_left_out;

enum { FTK_MAX_LEFT_OUT = 8 }; /* of which the reason is kept */

struct ftk_engine {
    const ftk_model *model;
    ftk_host host;
    ftk_device *device;     /* NULL: the CPU */
    const ftk_clock *clock; /* NULL: the system's */
    ftk_kv_pool pool;
    ftk_forward forward;
    ftk_stages stages; /* that run the layers below; nobody is there where all are here */
    ftk_cost cost;
    /* in the order of ftk_drafter_list: */
    ftk_learned learned[FTK_MAX_DRAFTERS];
    /* what all sessions learn together: */
    ftk_retrieval_rates retrieval;
    ftk_successor_rates successors;
    ftk_pace pace;
    ftk_drafterfile *files[FTK_MAX_DRAFTERS]; /* NULL: none, or not a trained family */
    bool was_found[FTK_MAX_DRAFTERS];         /* its file, which nobody has named */
    ftk_net *nets[FTK_MAX_DRAFTERS]; /* draft models; NULL: none was added for that drafter */
    ftk_left_out left_out[FTK_MAX_LEFT_OUT];
    int n_left_out;
    char found_line[512]; /* what went wrong with the file in hand */
    ftk_lowbit low;       /* the CPU's, from the first session on whose drafter wants it */
    char *target_act;     /* [FTK_MAX_NODES][target_stride] activations of drafters' products */
    size_t target_stride;
    float *target_space; /* [target_floats] of all families, for the one that drafts */
    size_t target_floats;
    int kv_slots;
    double credit; /* what drafts may still lose, in plain steps: see ledger.c */
    /* Passes since one without drafts was timed, and after how many one is again. */
    int since_plain, next_plain;
    int timed_again; /* such passes in a row that took less than was believed */
    /* Of each point of the cost model: passes since one of about its width, and after how many a
     * draft is made as wide. */
    int since_width[FTK_COST_POINTS], next_width[FTK_COST_POINTS];
    int widened; /* the point for which the pass that is being planned was; 0: it was not */
    /* Of the pass that is being planned: */
    ftk_company company;
    bool timing_plain;        /* nobody drafts in it */
    int rows_left;            /* that drafts which are forced, or left to a device, may have */
    ftk_session *sessions;    /* all that are open, the latest first */
    uint64_t n_open, n_calls; /* how many, and of ftk_step() so far */
    bool has_low;             /* the copy in few bits is made */
    int wide; /* rows of the pieces in which a device reads long prompts; 0: as all others */
};

static inline double ftk_engine_now(const ftk_engine *e)
{
    return ftk_clock_now(e->clock);
}

/* ftk_engine_open(), by a clock that outlives the engine. */
ftk_err ftk_engine_open_by(ftk_engine **out, const ftk_model *m, const ftk_engine_config *cfg,
                           const ftk_clock *clock);

#define FTK_CREDIT 1.0 /* plain steps that the first drafts of an engine may lose */
enum {
    FTK_REACH = 16,       /* nodes asked of a drafter at least, when the cost model decides */
    FTK_FIRST_PLAIN = 16, /* steps without a plain one, at first */
    FTK_FIRST_WIDER = 64, /* and without one of the width above those that pay */
    FTK_PLAIN = 8,        /* plain steps that stand for those which none has seen yet */
};

/* What is kept of each place of a text. */
typedef struct ftk_logprobs {
    int n_best;        /* -1: nothing is kept */
    bool prompt;       /* of prompts that are read, too */
    float *own;        /* [n_ctx] NAN: not known; NULL: nothing is kept */
    ftk_logprob *best; /* [n_ctx][n_best] */
} ftk_logprobs;

enum { FTK_FORECAST = 32 }; /* tokens of the host's guess that are looked at */

/* The host's guesses, and how they fare. */
typedef struct ftk_forecasts {
    ftk_forecast *hook; /* or NULL */
    void *ctx;
    ftk_rate right;
    size_t at; /* where the last guess stands in the text */
    int n, drafted;
    int32_t token[FTK_FORECAST];
} ftk_forecasts;

struct ftk_session {
    ftk_engine *engine;
    ftk_meter meter;
    ftk_host host; /* the engine's, metered: all that the session takes comes from it */
    ftk_session_config cfg;
    int n_ctx;
    int32_t *tokens; /* [n_ctx] committed; those from kv.len on are not cached yet */
    size_t n_tokens;
    size_t limit; /* tokens that may still be emitted */
    ftk_kv_seq kv;
    int exact_kv; /* slots below it hold what the model's own passes leave; INT_MAX: all do */
    ftk_sampler sampler;
    ftk_logprobs logprobs;
    ftk_mask *mask; /* the host's hook, or NULL */
    void *mask_ctx;
    ftk_forecasts forecasts;
    const ftk_verifier_ops *verifier;
    ftk_family family;                   /* that drafts; its ops are NULL where none does */
    ftk_retrieval retrieval;             /* open from the first family on, whichever drafts */
    ftk_successors successors;           /* likewise, from the first on that wants them */
    ftk_net_seq *nets[FTK_MAX_DRAFTERS]; /* what draft models have read of it; NULL: nothing yet */
    size_t pass_row; /* of the last pass's rows the first that is this session's */
    ftk_target target;
    ftk_rows above; /* what its run_above() and run_route() leave */
    bool forced;    /* the draft is no family's: ftk_session_force() */
    bool decoding;  /* a drafter's decode() runs: what its row says is emitted */
    /* [FTK_HELD][n_embd] on the device, from the first family on that wants such; else NULL */
    float *held;
    /* Of the device's rows those of this session's tree, while it is learned from. */
    int first_row[FTK_HELD];
    void *test; /* for drafters of the tests */
    ftk_tree tree;
    int n_joined; /* rows of the drafter that join the tree's pass, and their nodes */
    int16_t joined[FTK_MAX_NODES];
    ftk_verdict verdict;
    double drafting;    /* seconds that this step's draft has cost */
    double row_seconds; /* that each drafted row adds to its pass */
    bool open_draft;    /* the tree's size is the cost model's to decide */
    int room;           /* rows behind the cached ones that this step may take */
    size_t lead;        /* tokens more than plain decoding would have, steps alike: room.c */
    ftk_session *older, *newer; /* in the engine's list */
    uint64_t last_call;         /* of ftk_step() that had this session; 0: none */
    struct {
        int room;       /* nodes that the pass has rows for; 0: no draft is left */
        double seconds; /* that propose() took */
        ftk_finishing finishing;
    } left;        /* to the device in this step: finish.c */
    bool stepping; /* taken by the running ftk_step(), to find doubles */
    ftk_stats stats;
};

/* Errors: NOMEM. */
ftk_err ftk_learned_open(ftk_learned *l, const ftk_drafter_ops *ops, const ftk_host *host);

/* What a pass left of the rows from `first` on that have logits; spared: FTK_SPARE_LOGITS. */
ftk_rows ftk_rows_of(const ftk_forward *f, bool spared, size_t first);

/* Errors: INVALID, with a line, where one is not in the vocabulary. */
ftk_err ftk_check_tokens(const ftk_engine *e, const int32_t *tokens, size_t n);

/* NUMERIC, with a line. */
ftk_err ftk_not_finite(const ftk_engine *e);

/* ---- memory.c */

/* Of memory, beside pages of the cache. */
uint64_t ftk_session_bytes(const ftk_session *s);
/* A caller's config, checked, with what it leaves open filled in: slots, and threads. Errors:
 * INVALID, UNSUPPORTED. */
ftk_err ftk_engine_take_config(const ftk_model *m, const ftk_engine_config *cfg,
                               ftk_engine_config *own);

/* ---- logprobs.c */

/* Of a row of logits. */
typedef struct ftk_softmax {
    float max;
    double log_sum; /* of what lies below it */
} ftk_softmax;

ftk_softmax ftk_softmax_of(const float *x, int n);
/* The logarithm of a logit's probability. */
static inline double ftk_softmax_log(const ftk_softmax *all, float logit)
{
    return (double)logit - all->max - all->log_sum;
}

/* Keeps what the row says of the token at a place, if anything is kept. */
void ftk_logprobs_keep(ftk_session *s, size_t place, const float *row);
/* The same of rows behind the cached ones that read a prompt, where nothing is known yet. Errors:
 * NUMERIC. */
ftk_err ftk_logprobs_read(ftk_session *s, size_t n_rows, const float *rows);
void ftk_logprobs_forget(ftk_session *s, size_t from, size_t n);
/* To a fork that has its tokens. Errors: NOMEM. */
ftk_err ftk_logprobs_copy(ftk_session *to, const ftk_session *from);
void ftk_logprobs_close(ftk_session *s);

/* ---- settings.c */

enum { FTK_ENDS_MODEL, FTK_ENDS_OWN }; /* of ftk_sampler.ends */

/* Errors: INVALID, UNSUPPORTED. */
ftk_err ftk_sampling_check(const ftk_sampling *p, const ftk_host *h);
/* What was checked is in force from now on. Errors: NOMEM (what was stays). */
ftk_err ftk_session_take_sampling(ftk_session *s, const ftk_sampling *p);
/* Whether an answer ends with the token. */
bool ftk_session_ends(const ftk_session *s, int32_t token);
/* What a fork keeps. Errors: NOMEM. */
ftk_err ftk_settings_copy(ftk_session *to, const ftk_session *from);
void ftk_settings_close(ftk_session *s);

/* ---- mask.c */

/* Drafts those tokens that are the only ones which the mask allows, each behind the one before,
 * and what the host guesses, as far as such rows pay; false: there are none. */
bool ftk_session_force(ftk_session *s);
/* Leaves out what the mask forbids at the end of the draft. It stays where others follow: any
 * leading part of a draft is one, but no other part. */
void ftk_session_cut_forbidden(ftk_session *s);

/* ---- forecast.c */

/* Adds the host's guess behind the draft, which is a chain whose tokens are `path`, with room
 * for as many as may be drafted: at most `most` together. */
void ftk_session_add_forecast(ftk_session *s, int32_t *path, int most);

/* ---- room.c */

/* Rows behind the cached ones, FTK_MAX_NODES or more where nothing is short, that the session
 * may take in this step; fewer than 1: it is not its turn for a page. */
int ftk_session_room(const ftk_session *s);

/* ---- size.c */

/* Tokens that come in the time of a token of plain decoding of late: 1 at least. */
double ftk_session_pace(const ftk_session *s);
/* The cost model decides how many nodes are drafted. */
bool ftk_session_sizes_itself(const ftk_session *s);
/* How many nodes may be drafted at all: by the caller, by the tokens still wanted, by the room. */
int ftk_size_most(const ftk_session *s);
/* And by what of late a family's drafts were worth. */
int ftk_size_ceiling(const ftk_session *s, const ftk_family *f);
/* Seconds in which plain decoding gives the session a token, in the company of the pass that is
 * being planned: the pass's, divided by those who decode. */
double ftk_size_token(const ftk_session *s);
/* Seconds that so many more rows of the session add to that pass. */
double ftk_size_more(const ftk_session *s, int rows);
/* How many of so many nodes the credit covers. */
int ftk_size_covered(const ftk_session *s, int nodes, double drafting);
/* Nodes of a probe, if the next draft is one should it not pay. */
int ftk_size_probe(const ftk_family *f);
/* Of a draft of `there` nodes so many pay: returns how many are to be verified, which now and
 * then is a small probe, and adapts how many are asked for next time. */
int ftk_size_wanted(ftk_family *f, int pay, int there);
/* Sizes the drafts of the n sessions that decode in a pass: the parts of their trees that pay
 * and are covered, a probe, or nothing. */
void ftk_size_drafts(ftk_session *const *s, int n);
/* Steps without a draft, since drafts have not paid lately or cost more than they may lose. */
bool ftk_size_rests(const ftk_session *s, ftk_family *f);
/* A pass without drafts is due, because none was timed for long. */
bool ftk_size_plain_due(const ftk_engine *e);
/* A pass took so long; plain: without drafts. */
void ftk_size_saw_pass(ftk_engine *e, ftk_width w, bool plain, double seconds);
/* Drafting took so long. */
void ftk_size_took(ftk_session *s, ftk_family *f, double seconds);

/* ---- ledger.c */

/* So many tokens were gained, or lost where below 0. */
void ftk_ledger_book(ftk_session *s, double tokens);
/* What a step with so many drafted nodes cost, and gave. */
void ftk_ledger_settle(ftk_session *s, int nodes, int emitted);
/* Has the session's table of successors read rows of the pass. */
void ftk_ledger_read_table(ftk_session *s, const ftk_rows *rows, bool prompt);

/* ---- draft.c */

/* No draft: the tree is the root alone. */
void ftk_draft_none(ftk_session *s);
/* Begins a step's draft. True: a family is to be asked for it. */
bool ftk_draft_begin(ftk_session *s);
/* Asks the families of these sessions, all of which are to share a pass. */
void ftk_draft_ask(ftk_session *const *s, int n);
/* Asks the drafter which rows are to join the pass. */
void ftk_draft_append(ftk_session *s);
/* Whoever wants to learns from the rows of a pass, and from the verdict. */
void ftk_draft_learn(ftk_session *s, const ftk_rows *rows, bool prompt);

/* ---- batch.c */

/* Sessions that share a pass. */
typedef struct ftk_batch {
    ftk_engine *engine;
    int n;
    bool is_full;
    int room;    /* rows that drafts may have */
    ftk_err err; /* the first of sessions that could not be taken */
    ftk_session *session[FTK_PASS_SEQS];
    ftk_pass_seq seq[FTK_PASS_SEQS];
    int rows[FTK_PASS_SEQS];  /* before drafts are sized */
    size_t at[FTK_PASS_SEQS]; /* whose place in the caller's list this is */
} ftk_batch;

/* Takes sessions into a pass, in their order, until it is full; returns how many were looked at.
 * Errors of single sessions are left in their results. */
size_t ftk_batch_admit(ftk_batch *b, ftk_session *const *s, size_t n, ftk_result *results);
/* Drafts, sizes, and lays out the rows. alone: the batch is all that is stepped. Errors:
 * NO_ROOM. */
ftk_err ftk_batch_plan(ftk_batch *b, bool alone);
/* What the pass took, unless rows joined it halfway, or it read a prompt in the device's wide way,
 * which has costs of its own. */
void ftk_size_saw_batch(const ftk_batch *b, double seconds);
/* The drafter's own way to the next token, LOSSY, in place of a pass. */
bool ftk_session_decodes_directly(const ftk_session *s);

/* Some of the prompt is unread. */
static inline bool ftk_session_reads(const ftk_session *s)
{
    return s->n_tokens - (size_t)s->kv.len > 1;
}

/* ---- conclude.c */

/* What neither the verdict nor a drafter reads of a pass: FTK_SPARE_. */
unsigned ftk_session_spare(const ftk_session *s);
/* Judges what the pass has left of a session's rows, which begin at `row` of all rows and at
 * `with_logits` of those with logits, and takes it into the session. Errors: NUMERIC, NOMEM. */
ftk_err ftk_conclude(ftk_session *s, const ftk_pass_seq *seq, size_t row, size_t with_logits,
                     ftk_result *r);

/* ---- finish.c */

/* ftk_target.leave */
bool ftk_finish_leave(void *session, const ftk_unfinished *draft, int budget);
/* Takes what came of a draft that was left, behind its pass. Returns the seconds that it took
 * there. */
double ftk_finish_take(ftk_session *s);

/* ---- target.c */

/* What drafters may use of the model; s outlives it. */
void ftk_target_init(ftk_target *t, ftk_session *s);
/* Takes the memory of a device for what is held, if there is a device. Errors: NOMEM. */
ftk_err ftk_target_hold(ftk_session *s);
void ftk_target_release(ftk_session *s);
/* Where it lies. */
float *ftk_target_held(const ftk_session *s, ftk_held what);
/* Which part of all weights that a pass reads is read from this layer on. */
double ftk_target_share(const ftk_model *m, int layer);
/* Whether the engine has what a drafter needs beside its code: a file, or a draft model. */
bool ftk_target_has(const ftk_engine *e, const ftk_drafter_ops *ops);
/* The weights of a trained drafter; NULL: no file of its family was added. */
const ftk_weights *ftk_target_weights(const ftk_engine *e, const ftk_drafter_ops *ops);
/* Makes the copy of the layers in few bits that rows of this drafter want, if they want one and it
 * is not there yet, and says so. Errors: NOMEM, DEVICE, with a line. */
ftk_err ftk_target_low_bits(ftk_engine *e, const ftk_drafter_ops *ops);
/* Takes the work space that a drafter's sessions share. Errors: NOMEM (what was there stays). */
ftk_err ftk_target_space(ftk_engine *e, const ftk_drafter_ops *ops, const ftk_target *t);
/* Takes work space for products of rows up to this long. Errors: NOMEM (what was there stays). */
ftk_err ftk_target_room(ftk_engine *e, int widest);
/* The index of a family in ftk_drafter_list, or -1. */
int ftk_drafter_index(const char *name, size_t n);
/* Whether it is one that has files of its own; false for -1. */
bool ftk_drafter_reads_files(int i);
/* ftk_engine_add_drafter_as(), with the host for messages and for the memory of what is opened. */
ftk_err ftk_target_add_file(ftk_engine *e, const char *path, const ftk_drafter_config *cfg,
                            const ftk_host *host);
/* Why a file of this drafter's family, or one of no known family, was found but left out; or
 * NULL. */
const char *ftk_target_left_out(const ftk_engine *e, const ftk_drafter_ops *ops);

/* As ftk_session_open(), with a drafter from outside the list (cfg->drafter is not looked at). */
ftk_err ftk_session_open_with(ftk_session **out, ftk_engine *e, const ftk_session_config *cfg,
                              const ftk_drafter_ops *drafter, void *test);

#endif
