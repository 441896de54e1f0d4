/* SPDX-License-Identifier: Apache-2.0
 * foretoken serve: from the command line to a server that runs, and to its end. */
#include "serve/serve.h"

#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <time.h>

/* ---- opening */

/* The model's file without folder and ending. */
static void set_name(serve_server *s)
{
    static const char ending[] = ".gguf";
    const char *const slash = strrchr(s->w.path, '/');
    snprintf(s->name, sizeof s->name, "%.200s", slash ? slash + 1 : s->w.path);
    const size_t n = strlen(s->name), n_ending = sizeof ending - 1;
    if (n > n_ending && strcmp(s->name + n - n_ending, ending) == 0) s->name[n - n_ending] = 0;
}

static int open_key(serve_server *s)
{
    const cli_options *const o = s->o;
    if (o->api_key && o->api_key_file)
        return cli_say_usage(o->command,
                             "--api-key and --api-key-file exclude each other; give one of them");
    if (!o->api_key && !o->api_key_file) return CLI_DONE;
    cli_bytes text = {0};
    cli_bytes_add(&text, "", 0);
    if (o->api_key) cli_bytes_add(&text, o->api_key, strlen(o->api_key));
    const bool read = o->api_key || cli_bytes_read(&text, o->api_key_file);
    s->key = text.p;
    if (!read) return CLI_FAILED;
    if (o->api_key_file) s->key[strcspn(s->key, "\r\n")] = 0;
    const size_t n = strlen(s->key), first = strspn(s->key, " \t");
    if (first == 0 && n > 0 && s->key[n - 1] != ' ' && s->key[n - 1] != '\t') return CLI_DONE;
    if (first < n)
        cli_say("the key has blanks around it, which no header can carry; leave them out");
    else
        cli_say("%s has no key in its first line; write one there",
                o->api_key_file ? o->api_key_file : "--api-key");
    return CLI_FAILED;
}

/* Of one request, and of all together. */
static int cache_slots(serve_server *s)
{
    enum { MOST_CTX = 4096, MOST_CACHE = 16384 };
    const cli_options *const o = s->o;
    const size_t trained = (size_t)s->w.info.n_ctx_train;
    s->ctx = o->ctx ? (size_t)o->ctx : trained < MOST_CTX ? trained : MOST_CTX;
    size_t cache = s->ctx * (size_t)o->parallel;
    if (cache > MOST_CACHE) cache = s->ctx > MOST_CACHE ? s->ctx : MOST_CACHE;
    if (o->cache) cache = (size_t)o->cache;
    if (s->ctx > cache) s->ctx = cache;
    return (int)cache;
}

/* A template that fails for the plainest of conversations may for all: that is said here, too, not
 * to clients alone. */
static void try_chat(const serve_server *s)
{
    static const ftk_message plain = {"user", "Hello"};
    char why[400];
    size_t n;
    cli_hush(why, sizeof why);
    const ftk_err err = ftk_chat_text(s->w.model, &s->w.chat, &plain, 1, NULL, 0, &n);
    cli_hush(NULL, 0);
    if (err != FTK_OK && err != FTK_ERR_SPACE)
        cli_say("%s; so a plain question is refused, completions are not",
                why[0] ? why : ftk_strerror(err));
}

static int open_world(serve_server *s)
{
    const cli_options *const o = s->o;
    const bool speculates = strcmp(o->drafter, "none") != 0 && o->budget < 0;
    int status = open_key(s);
    if (status == CLI_DONE) status = cli_world_open_model(&s->w, o);
    if (status == CLI_DONE) status = cli_world_open_engine(&s->w, o, cache_slots(s), speculates);
    if (status == CLI_DONE) status = cli_world_add_drafters(&s->w, o);
    if (status == CLI_DONE) status = cli_world_open_chat(&s->w, o);
    if (status != CLI_DONE) return status;
    if (!ftk_engine_has_drafter(s->w.engine, o->drafter)) {
        cli_say("drafter %s needs a file that was trained for this model; name it with "
                "--drafter-file (a small model with --draft-model), or give another --drafter",
                o->drafter);
        return CLI_FAILED;
    }
    cli_warn_of_drafter(o->drafter);
    try_chat(s);
    serve_find_call_form(s);
    set_name(s);
    s->begun = (int64_t)time(NULL);
    return CLI_DONE;
}

/* ---- memory: sessions, bodies and answers come and go, and what is small among them stays */

/* What is large has pages of its own, which go back when it is freed; by itself glibc raises that
 * size each time it frees such a piece. And threads share one heap. */
static void keep_memory_flat(void)
{
#ifdef __GLIBC__
    enum { LARGE = 64 << 10, SPARE = 128 << 10 };
    mallopt(M_MMAP_THRESHOLD, LARGE);
    mallopt(M_TRIM_THRESHOLD, SPARE);
    mallopt(M_ARENA_MAX, 1);
#endif
}

/* Until a signal ends the server. Pages of the heap that are free go back meanwhile. */
static void wait_for_end(const sigset_t *signals)
{
    const struct timespec nap = {.tv_sec = 5};
    while (sigtimedwait(signals, NULL, &nap) < 0) {
#ifdef __GLIBC__
        malloc_trim(0);
#endif
    }
}

/* ---- running */

static void open_lock(serve_server *s)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->news, &attr);
    pthread_condattr_destroy(&attr);
}

static void tell(serve_server *s, bool *what)
{
    pthread_mutex_lock(&s->lock);
    *what = true;
    pthread_cond_signal(&s->news);
    pthread_mutex_unlock(&s->lock);
}

static bool is_busy(serve_server *s)
{
    pthread_mutex_lock(&s->lock);
    const bool busy = s->n_live > 0 && !s->broken;
    pthread_mutex_unlock(&s->lock);
    return busy;
}

/* Until all is sent, the time is over or another signal comes. */
static void wait_for_clients(serve_server *s, const sigset_t *signals, double seconds)
{
    const struct timespec nap = {.tv_nsec = 20000000};
    const double end = cli_now() + seconds;
    while (is_busy(s) && cli_now() < end)
        if (sigtimedwait(signals, NULL, &nap) > 0) break;
}

static void drain(serve_server *s, const sigset_t *signals)
{
    tell(s, &s->draining);
    serve_http_quiesce(s);
    wait_for_clients(s, signals, (double)s->o->drain);
}

static int run(serve_server *s)
{
    pthread_t scheduler;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* threads that come inherit this */
    s->main_thread = pthread_self();
    if (pthread_create(&scheduler, NULL, serve_schedule, s) != 0) {
        cli_say("no thread could be started");
        return CLI_FAILED;
    }
    const bool open = serve_http_open(s);
    if (open) {
        wait_for_end(&signals);
        drain(s, &signals);
    }
    tell(s, &s->stop);
    pthread_join(scheduler, NULL);
    if (open) wait_for_clients(s, &signals, 1); /* they are told that it ends */
    serve_http_close(s);
    return open && !s->broken ? CLI_DONE : CLI_FAILED;
}

int cmd_serve(const cli_options *o)
{
    serve_server s = {.o = o};
    keep_memory_flat();
    int status = open_world(&s);
    open_lock(&s);
    if (status == CLI_DONE) status = run(&s);
    pthread_cond_destroy(&s.news);
    pthread_mutex_destroy(&s.lock);
    serve_formats_close(&s);
    cli_world_close(&s.w);
    free(s.key);
    return status;
}
