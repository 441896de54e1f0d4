/* SPDX-License-Identifier: Apache-2.0
 * foretoken chat: a conversation, in a terminal or line by line. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "answer.h"
#include "conversation.h"
#include "line.h"
#include "message.h"

typedef struct chat {
    const cli_options *o;
    cli_world w;
    cli_conversation talk;
    cli_line *line;
    const char *drafter;
    bool stats;
    bool said_dropped;
    uint64_t n_tokens, n_accepted; /* of all answers */
} chat;

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    interrupted = 1;
}

/* Tokens an answer must have room for when it starts. */
static size_t room(const chat *c)
{
    const size_t n = ftk_session_context(c->w.session) / 8;
    return n < 1 ? 1 : n > 256 ? 256 : n;
}

/* ---- answers */

/* Runs to the end; where the context is full meanwhile, the oldest turns make room. */
static ftk_err run(chat *c, cli_answer *a, bool *dropped)
{
    for (;;) {
        ftk_err err = cli_answer_run(a);
        if (err != FTK_OK || a->ending != CLI_ENDED_CONTEXT) return err;
        size_t need;
        err =
            cli_conversation_sync(&c->talk, &c->w, a->tokens, a->n_tokens, room(c), dropped, &need);
        if (err == FTK_ERR_CONTEXT) return FTK_OK;
        if (err != FTK_OK) return err;
    }
}

/* What is worth saying after an answer. */
static void remark(chat *c, const cli_answer *a, bool dropped)
{
    if (dropped && !c->said_dropped) {
        cli_say("the conversation no longer fits the %zu tokens of the context; its oldest turns "
                "are being forgotten (a larger -c keeps more)",
                ftk_session_context(c->w.session));
        c->said_dropped = true;
    }
    if (a->ending == CLI_ENDED_CONTEXT)
        cli_say("the answer fills the whole context and was cut; a larger -c allows more");
    if (a->ending == CLI_ENDED_LIMIT)
        cli_say("the answer was cut after %zu tokens; -n allows more", a->n_tokens);
    if (c->stats) cli_answer_say_speed(a);
}

static ftk_err answer(chat *c, bool dropped)
{
    const cli_answer_config cfg = {
        .drafter = c->drafter,
        .show = true,
        .dim = c->stats && isatty(STDOUT_FILENO),
        .limit = c->o->n,
        .interrupt = &interrupted,
    };
    cli_answer a;
    ftk_err err = cli_answer_open(&a, &c->w, c->o, cli_chat_stop(&c->w), &cfg);
    if (err == FTK_OK) err = run(c, &a, &dropped);
    if (err == FTK_OK) err = cli_answer_finish(&a);
    cli_out("\n", 1);
    c->n_tokens += a.n_tokens;
    c->n_accepted += a.accepted;
    if (err == FTK_OK) {
        cli_conversation_add(&c->talk, "assistant", a.text.p ? a.text.p : "");
        remark(c, &a, dropped);
    }
    cli_answer_close(&a);
    return err;
}

static ftk_err say_too_long(const chat *c, size_t need)
{
    const size_t context = ftk_session_context(c->w.session);
    cli_say("this message takes %zu tokens, %zu fit; it was not sent: shorten it or use a "
            "larger -c",
            need, context - room(c));
    return FTK_OK;
}

/* One message and its answer. */
static ftk_err turn(chat *c, const char *text)
{
    bool dropped = false;
    size_t need = 0;
    cli_conversation_add(&c->talk, "user", text);
    ftk_err err = cli_conversation_sync(&c->talk, &c->w, NULL, 0, room(c), &dropped, &need);
    if (err != FTK_OK) cli_conversation_pop(&c->talk);
    if (err == FTK_ERR_CONTEXT) return say_too_long(c, need);
    return err == FTK_OK ? answer(c, dropped) : err;
}

/* ---- commands */

/* With `auto`: who drafts. */
static void say_drafter(const chat *c)
{
    ftk_drafter_stats d;
    if (ftk_session_drafter_stats(c->w.session, &d, 1) > 0 && d.steps > 0)
        fprintf(stderr, "%-9s %llu steps, %llu tokens; of late %.2f times as fast as plain\n",
                d.name, (unsigned long long)d.steps, (unsigned long long)d.emitted, d.speed);
}

static void say_totals(const chat *c)
{
    ftk_stats s;
    ftk_session_get_stats(c->w.session, &s);
    char device[128];
    const char *name = ftk_engine_device(c->w.engine);
    ftk_show(name, strlen(name), 0, device, sizeof device);
    const double steps = s.steps > 0 ? (double)s.steps : 1;
    const double seconds = s.decode_seconds > 0 ? s.decode_seconds : 1;
    fprintf(stderr,
            "drafter %s, verifier %s%s, device %s, kernels %s, %d threads\n"
            "prompt    %llu tokens in %.3f s\n"
            "answers   %llu tokens in %.3f s, %llu steps, %.2f tokens per step\n"
            "drafted   %llu, accepted %llu\n"
            "time      %.0f %% drafting, %.0f %% model, %.0f %% verifying\n",
            c->drafter, c->o->verifier, cli_lossless(c->drafter, c->o->verifier) ? "" : " (lossy)",
            device, c->w.info.kernels, ftk_engine_threads(c->w.engine),
            (unsigned long long)s.prompt, s.prefill_seconds, (unsigned long long)c->n_tokens,
            s.decode_seconds, (unsigned long long)s.steps, (double)c->n_tokens / steps,
            (unsigned long long)s.drafted, (unsigned long long)c->n_accepted,
            100 * s.draft_seconds / seconds, 100 * s.forward_seconds / seconds,
            100 * s.judge_seconds / seconds);
    say_drafter(c);
}

static void command_help(chat *c, const char *arg)
{
    (void)arg;
    const bool same = c->o->temp <= 0 || strcmp(c->o->verifier, "exact") == 0;
    char names[256];
    fprintf(stderr, "/drafter NAME  who guesses ahead: %s%s\n",
            cli_name_list(ftk_drafters(), names, sizeof names),
            same ? "; the answers are the same" : "");
    fputs("several lines  paste them; or end a line with \\, press Alt-Enter, or put \"\"\" before "
          "and behind\n"
          "/stats         what was spent so far; /stats on, /stats off: a line after each answer\n"
          "/reset         forget the conversation\n"
          "/quit          leave, as Ctrl-D does; Ctrl-C stops an answer\n"
          "/help          this text\n",
          stderr);
}

static void command_stats(chat *c, const char *arg)
{
    if (strcmp(arg, "on") == 0 || strcmp(arg, "off") == 0)
        c->stats = strcmp(arg, "on") == 0;
    else if (arg[0])
        cli_say("/stats: \"%s\" is unknown; give on, off or nothing", arg);
    else
        say_totals(c);
}

static void command_reset(chat *c, const char *arg)
{
    (void)arg;
    cli_conversation_reset(&c->talk);
    c->said_dropped = false;
    cli_say("the conversation is forgotten");
}

static void command_drafter(chat *c, const char *arg)
{
    for (const char *const *name = ftk_drafters(); *name; name++) {
        if (strcmp(*name, arg) != 0) continue;
        const ftk_err err = ftk_session_set_drafter(c->w.session, *name);
        if (err == FTK_OK) {
            c->drafter = *name;
            cli_say("drafter %s", *name);
            cli_warn_of_drafter(*name);
        } else {
            cli_fail(err, "the drafter could not be changed");
        }
        return;
    }
    char names[256];
    cli_name_list(ftk_drafters(), names, sizeof names);
    if (arg[0])
        cli_say("/drafter: \"%s\" is unknown; give %s", arg, names);
    else
        cli_say("drafter %s; another one with /drafter %s", c->drafter, names);
}

/* False when the command says to leave. Blanks at its end are cut off. */
static bool command(chat *c, char *text)
{
    static const struct {
        const char *name;
        void (*run)(chat *c, const char *arg); /* NULL: leave */
        bool takes;
    } table[] = {
        {"/help", command_help, false},   {"/stats", command_stats, true},
        {"/reset", command_reset, false}, {"/drafter", command_drafter, true},
        {"/quit", NULL, false},           {"/exit", NULL, false},
    };
    for (size_t end = strlen(text); end > 0 && strchr(" \t\r", text[end - 1]);) text[--end] = 0;
    const size_t n = strcspn(text, " \t");
    const char *arg = text + n + strspn(text + n, " \t");
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strlen(table[i].name) != n || memcmp(table[i].name, text, n) != 0) continue;
        if (arg[0] && !table[i].takes)
            cli_say("%s: \"%s\" is one too many; give nothing", table[i].name, arg);
        else if (table[i].run)
            table[i].run(c, arg);
        else
            return false;
        return true;
    }
    cli_say("\"%.*s\" is no command; /help lists them", (int)(n < 40 ? n : 40), text);
    return true;
}

/* ---- the conversation */

static int talk(chat *c)
{
    const bool interactive = cli_line_interactive(c->line);
    cli_message m = {0};
    int status = CLI_DONE;
    int interrupts = 0;
    for (bool more = true; more && status == CLI_DONE;) {
        interrupted = 0;
        const cli_line_end end = cli_message_read(c->line, &m);
        if (end == CLI_LINE_INTERRUPT && ++interrupts < 2) {
            fputs("\n(Ctrl-C again, or Ctrl-D, leaves)\n", stderr);
            continue;
        }
        if (end != CLI_LINE) {
            if (interactive) fputc('\n', stderr);
            if (end == CLI_LINE_ERROR) {
                cli_say("standard input could not be read");
                status = CLI_FAILED;
            }
            break;
        }
        interrupts = 0;
        interrupted = 0;
        if (memchr(m.text.p, 0, m.text.n)) {
            cli_say("a line with a NUL byte in it was left out");
            continue;
        }
        if (m.text.n == 0) continue;
        if (m.text.p[0] == '/' && !m.verbatim) {
            more = command(c, m.text.p);
            continue;
        }
        const ftk_err err = turn(c, m.text.p);
        if (err != FTK_OK) status = cli_fail(err, "the answer could not be computed");
        if (!cli_out("", 0)) more = false;
    }
    cli_bytes_free(&m.text);
    const int out = cli_out_status();
    return status == CLI_DONE ? out : status;
}

/* A template that cannot be used, or a system message that leaves no room, would spoil every
 * message. */
static int check_system(const chat *c)
{
    int32_t *tokens;
    size_t n;
    const ftk_message msgs[] = {{"system", c->o->system}, {"user", "Hello"}};
    const size_t skip = c->o->system ? 0 : 1;
    const ftk_err err = cli_chat_tokenize(&c->w, msgs + skip, 2 - skip, &tokens, &n);
    free(tokens);
    if (err != FTK_OK) return cli_fail(err, "the chat template could not be used");
    if (!c->o->system) return CLI_DONE;
    const size_t most = ftk_session_context(c->w.session) - room(c);
    if (n <= most) return CLI_DONE;
    cli_say("the system message takes %zu tokens, %zu fit; shorten it or use a larger -c", n, most);
    return CLI_FAILED;
}

static void greet(const chat *c)
{
    const char *name = c->w.info.name[0] ? c->w.info.name : c->w.info.architecture;
    char shown[200];
    ftk_show(name, strlen(name), 0, shown, sizeof shown);
    fprintf(stderr,
            "foretoken %s, %s, %zu tokens of context. /help lists commands, Ctrl-D leaves.\n",
            ftk_version(), shown, ftk_session_context(c->w.session));
}

int cmd_chat(const cli_options *o)
{
    chat c = {.o = o, .drafter = o->drafter, .stats = o->stats};
    int status = cli_world_open_model(&c.w, o);
    if (status == CLI_DONE) status = cli_world_open_engine(&c.w, o, (int)o->ctx, o->budget < 0);
    if (status == CLI_DONE) status = cli_world_open_session(&c.w, o);
    if (status == CLI_DONE) status = cli_world_open_chat(&c.w, o);
    if (status == CLI_DONE) {
        cli_conversation_open(&c.talk, o->system);
        status = check_system(&c);
    }
    if (status == CLI_DONE) {
        c.line = cli_line_open(&interrupted);
        if (cli_line_interactive(c.line)) {
            const struct sigaction action = {.sa_handler = on_interrupt};
            sigaction(SIGINT, &action, NULL);
            greet(&c);
        }
        status = talk(&c);
    }
    cli_line_close(c.line);
    cli_conversation_close(&c.talk);
    cli_world_close(&c.w);
    return status;
}
