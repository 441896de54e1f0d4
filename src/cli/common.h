/* SPDX-License-Identifier: Apache-2.0
 * What the commands share: output, and opening a model. */
#ifndef FTK_CLI_COMMON_H
#define FTK_CLI_COMMON_H

#include "bytes.h"
#include "foretoken.h"
#include "options.h"
#include "say.h"

int cmd_chat(const cli_options *o);
int cmd_generate(const cli_options *o);
int cmd_tokenize(const cli_options *o);
int cmd_perplexity(const cli_options *o);
int cmd_inspect(const cli_options *o);
int cmd_image(const cli_options *o);
int cmd_serve(const cli_options *o); /* src/serve/, where it is built */

/* ---- output: standard output, with errors seen */

/* Writes and flushes. False when standard output is gone: stop, and return cli_out_status(). */
bool cli_out(const char *text, size_t n);
/* The same for text of a model: on a terminal its control characters, which could do anything
 * there, are left out, all but newline and tab. Takes whole UTF-8 characters; a pipe gets all
 * bytes. */
bool cli_out_model(const char *text, size_t n);
bool cli_out_json(json_t *object); /* takes the reference */
/* CLI_DONE, also when the reader of a pipe has left; CLI_FAILED, said, after any other error. */
int cli_out_status(void);

/* ---- the library's objects */

typedef struct cli_world {
    char path[8192]; /* the model's */
    ftk_model *model;
    ftk_model_info info;
    ftk_engine *engine;
    ftk_session *session;
    ftk_chat_config chat;
    cli_bytes chat_source; /* --template-file */
} cli_world;

/* The model where none is named, the best that is there; --demo: the bundled one. Says which it
 * took for a chat, or that there is none, and returns an exit status. */
int cli_best_model(const cli_options *o, char *path, size_t cap);

/* Each says what failed and returns an exit status; cli_world_close() is due in any case. */
int cli_world_open_model(cli_world *w, const cli_options *o);
int cli_world_open_engine(cli_world *w, const cli_options *o, int kv_slots, bool measure);
/* Trained drafters: those named by options, then those beside the model. */
int cli_world_add_drafters(cli_world *w, const cli_options *o);
/* With its drafters first. */
int cli_world_open_session(cli_world *w, const cli_options *o);
void cli_world_close(cli_world *w);
/* Says so of a drafter that is lossy. */
void cli_warn_of_drafter(const char *drafter);
/* Whether what comes of both is the model's own. */
bool cli_lossless(const char *drafter, const char *verifier);

/* A text or a conversation as tokens, in *tokens (to be freed). */
ftk_err cli_tokenize(const cli_world *w, const char *text, size_t n, unsigned flags,
                     int32_t **tokens, size_t *n_tokens);
ftk_err cli_chat_tokenize(const cli_world *w, const ftk_message *msgs, size_t n_msgs,
                          int32_t **tokens, size_t *n_tokens);

/* How conversations become text: --template, --template-file, --template-vars, or the model's own
 * way. Says so where the model has no template. Returns an exit status. */
int cli_world_open_chat(cli_world *w, const cli_options *o);
/* Seconds; never runs backwards. */
double cli_now(void);
/* Seconds since 1970 as the local clock shows them: the date in a conversation. */
int64_t cli_local_now(void);
/* A text that ends an answer then, or NULL. */
const char *cli_chat_stop(const cli_world *w);

#endif
