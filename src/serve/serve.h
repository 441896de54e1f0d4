/* SPDX-License-Identifier: Apache-2.0
 * foretoken serve: requests over HTTP in the shape of OpenAI's, answered by one engine.
 *
 * HTTP threads read a request, check it and put it in line. One thread, the scheduler, owns the
 * engine and its sessions and steps all that run together; what comes goes into the request's
 * buffer, and the HTTP threads send it. */
#ifndef FTK_SERVE_SERVE_H
#define FTK_SERVE_SERVE_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>

#include "cli/common.h"
#include "grammar/grammar.h"
#include "serve/tools.h"

struct MHD_Connection;
struct MHD_Daemon;

/* ---- what a client is told when something is wrong */

typedef struct serve_error {
    int status; /* of HTTP; 0: all is well */
    const char *type, *code;
    char param[64]; /* the field; "": none */
    char message[512];
} serve_error;

/* Each returns false, so that `return serve_refuse(...)` is one line. */
bool serve_refuse(serve_error *e, const char *param, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool serve_fail(serve_error *e, int status, const char *type, const char *code, const char *fmt,
                ...) __attribute__((format(printf, 5, 6)));

/* ---- a request */

enum { SERVE_MAX_CHOICES = 2048, SERVE_MAX_STOPS = 64 };

typedef struct serve_prompt {
    int32_t *tokens;
    size_t n;
    cli_bytes text; /* of a completion: as echoed */
} serve_prompt;

/* A token in a text. */
typedef struct serve_mark {
    size_t end; /* of its bytes */
    bool drafted;
} serve_mark;

typedef struct serve_request serve_request;

/* What answers have to look like: kept for requests to come. The grammar is walked by the scheduler
 * alone. */
typedef struct serve_format {
    grammar *g;
    char *key; /* what it was made of */
    atomic_int refs;
} serve_format;

enum { SERVE_KEPT_FORMATS = 16 };

/* What a request offers, and has to be called. */
typedef struct serve_tools {
    const json_t *list; /* NULL: none, or none are to be called */
    const json_t *only; /* the function that has to be called; NULL: any */
    bool needed;        /* one has to be called */
    bool parallel;      /* more than one may be */
} serve_tools;

/* One answer: of the request's prompts, each has n of them. It belongs to the scheduler until the
 * request is done. */
typedef struct serve_choice {
    serve_request *request;
    const serve_prompt *prompt;
    size_t index;
    uint64_t seed, order; /* order: who came first */
    ftk_session *session; /* NULL: it waits */
    ftk_stream *stream;
    const ftk_model *model;
    grammar_walk walk; /* where the request has a format */
    serve_calls calls; /* where it has tools */
    int place;         /* of what comes next in a prediction; below 0: nowhere */
    size_t n_right;    /* tokens that it told */
    int n_missed;      /* since it told one */
    int32_t *tokens;   /* of the prompt, and then what came */
    float *own;        /* [place]: logarithms; NAN: not known */
    ftk_logprob *best; /* [place][n_best] */
    size_t n_tokens, cap;
    cli_bytes text;    /* not sent yet */
    serve_mark *marks; /* of that text's tokens, where the request wants them */
    size_t n_marks, cap_marks;
    size_t n_told, offset; /* places sent, and where in the text they end, in characters */
    bool begun, prompt_known;
    const char *finish;   /* NULL: not yet */
    uint64_t read_before; /* prompt tokens that the session had read at the start */
    size_t cached;
    uint64_t drafted, accepted;
    double first, last; /* when tokens came */
} serve_choice;

struct serve_request {
    json_t *root; /* texts point into it */
    bool chat, stream, include_usage, usage_always, include_tokens, echo, ignore_eos;
    char id[40];
    int64_t created;
    serve_prompt *prompts;
    size_t n_prompts, n;
    ftk_sampling sampling;
    ftk_bias *biases;
    size_t n_biases;
    const char *stops[SERVE_MAX_STOPS + 1];
    size_t n_stops;
    size_t max_tokens; /* SIZE_MAX: no limit */
    int n_best;        /* -1: no log-probabilities */
    serve_tools tools;
    serve_format *format; /* NULL: any text */
    int32_t *predicted;
    size_t n_predicted;
    serve_choice *choices;
    size_t n_choices, n_done; /* n_done is the scheduler's */
    double start;

    /* guarded by the server's lock */
    struct MHD_Connection *connection; /* NULL: the client is gone */
    int fd;
    bool suspended, started, ready, done;
    cli_bytes out;
    size_t sent;
    serve_error error;
    atomic_int refs;
    serve_request *next; /* in line for the scheduler */
};

/* ---- figures, for /metrics */

enum { SERVE_N_BOUNDS = 14 };

typedef struct serve_histogram {
    uint64_t counts[SERVE_N_BOUNDS + 1], n;
    double sum;
} serve_histogram;

typedef struct serve_figures {
    size_t running, waiting, sessions;
    double kv_usage;
    uint64_t prompt_tokens, generated, cached, preempted, cancelled, stopped, cut, failed, refused;
    uint64_t drafts, drafted, accepted, accepted_at[FTK_MAX_NODES];
    serve_histogram first_token, per_token, whole;
} serve_figures;

void serve_histogram_add(serve_histogram *h, double seconds);

/* ---- the server */

/* A control token that stands for its text in calls. */
typedef struct serve_call_word {
    int32_t token;
    const char *text;
} serve_call_word;

typedef struct serve_server {
    const cli_options *o;
    cli_world w;
    char name[256];                   /* the model's, for clients */
    char *key;                        /* NULL: none is asked for */
    size_t ctx;                       /* most tokens of a request */
    const serve_call_form *call_form; /* of the model's template */
    bool takes_members;               /* the template is no built-in form */
    bool shows_calls;                 /* the template writes tool_calls of messages itself */
    bool calls_as_text;               /* and wants their arguments as text */
    bool calls_alone;                 /* and only of messages whose content is none */
    serve_call_word call_words[SERVE_CALL_WORDS];
    size_t n_call_words;
    struct MHD_Daemon *daemon;
    int listening; /* what the daemon left behind when it took no more; or MHD_INVALID_SOCKET */
    int64_t begun; /* when, seconds since 1970 */

    pthread_mutex_t lock;
    pthread_cond_t news;     /* for the scheduler */
    serve_request *incoming; /* the last one first */
    size_t n_queued, n_live; /* requests that have not started; connections that have one */
    serve_figures figures;
    grammar_words *words;                      /* made with the first format, then read-only */
    serve_format *formats[SERVE_KEPT_FORMATS]; /* the latest first; NULL: none */
    bool draining, stop, broken;
    pthread_t main_thread;
} serve_server;

/* ---- request.c: reading */

/* The body of a chat's or completion's request. NULL: *e says why not. */
serve_request *serve_request_read(serve_server *s, bool chat, const char *body, size_t n,
                                  serve_error *e);
void serve_request_unref(serve_request *r);
/* The bodies of /tokenize and /detokenize, answered. */
json_t *serve_tokenize(const serve_server *s, const char *body, size_t n, serve_error *e);
json_t *serve_detokenize(const serve_server *s, const char *body, size_t n, serve_error *e);

/* ---- callprobe.c */

void serve_find_call_form(serve_server *s);
/* The text of a control token that belongs to calls; NULL: it is none. */
const char *serve_call_word_of(const serve_server *s, int32_t token);

/* ---- tokenizerinfo.c */

json_t *serve_tokenizer_info(const serve_server *s);

/* ---- formats.c */

/* The format of answers that are one of the pieces, or 1 to `most` of them; NULL: *e names the
 * field. */
serve_format *serve_format_get(serve_server *s, const grammar_piece *pieces, size_t n,
                               const char *between, size_t most, const char *field, serve_error *e);
void serve_format_unref(serve_format *f);
/* tools, tool_choice and parallel_tool_calls; false: *e. */
bool serve_read_tools(const json_t *o, serve_tools *t, serve_error *e);
/* The format where tools have to be called, or may be in place of a value that fits schema. */
bool serve_tools_format(serve_server *s, serve_request *r, const json_t *schema, serve_error *e);
/* response_format, or what tools want; false: *e. */
bool serve_read_format(serve_server *s, const json_t *o, serve_request *r, serve_error *e);
void serve_formats_close(serve_server *s);

/* ---- foresee.c */

bool serve_read_prediction(const serve_server *s, const json_t *o, serve_request *r,
                           serve_error *e);
/* A token has come: whether the prediction told it. */
void serve_settle_prediction(serve_choice *c);
/* A ftk_forecast, with a choice for its ctx. */
size_t serve_foresee(void *choice, const int32_t *tokens, size_t n, int32_t *guesses, size_t most);

/* ---- reply.c: writing. A text is to be freed. */

char *serve_dump(json_t *j); /* takes the reference */
json_t *serve_reply_error(const serve_error *e);
json_t *serve_reply(const serve_server *s, const serve_request *r);
/* Server-sent events: the next piece of a choice, its end, and the end of all. */
void serve_reply_piece(const serve_server *s, serve_choice *c, cli_bytes *out);
void serve_reply_end(const serve_server *s, serve_choice *c, cli_bytes *out);
void serve_reply_close(const serve_server *s, const serve_request *r, cli_bytes *out);
json_t *serve_reply_models(const serve_server *s);
json_t *serve_reply_model(const serve_server *s);

/* ---- logwords.c: of a choice's places from..to-1, in the shape of chats or of completions;
 * null: not asked for. *offset is moved behind them. */

json_t *serve_logprobs(const serve_server *s, const serve_choice *c, size_t from, size_t to,
                       size_t *offset);

/* ---- choice.c: what comes of a session, for the scheduler */

ftk_err serve_choice_begin(const serve_server *s, serve_choice *c);
/* Takes in a step; c->finish is set where it was the last one. */
ftk_err serve_choice_take(const serve_server *s, serve_choice *c, const ftk_result *r);
void serve_choice_free(serve_choice *c);

/* ---- http.c */

bool serve_http_open(serve_server *s);
void serve_http_quiesce(serve_server *s);
void serve_http_close(serve_server *s);
/* Under the lock: its connection goes on. */
void serve_http_resume(serve_request *r);

/* ---- metrics.c: under the lock */

void serve_metrics(const serve_server *s, cli_bytes *out);

/* ---- scheduler.c, lineup.c */

/* Until s->stop. */
void *serve_schedule(void *server);
/* Under the lock: in line, or false with *e where the line is full or the server ends. */
bool serve_enqueue(serve_server *s, serve_request *r, serve_error *e);

#endif
