/* SPDX-License-Identifier: Apache-2.0
 * Stages of one model as threads of one process, with a link over sockets that may take its
 * time. */
#ifndef FTK_TESTKIT_STAGELINKS_H
#define FTK_TESTKIT_STAGELINKS_H

#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "foretoken.h"

enum { MOST_STAGES = 4 };

typedef struct stage_links {
    int n, fd[MOST_STAGES][MOST_STAGES]; /* [own][other] */
    double delay;                        /* seconds that a message is on its way */
} stage_links;

typedef struct stage_end {
    const stage_links *links;
    int rank;
} stage_end;

static inline double stage_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline bool stage_write(int fd, const char *p, size_t n)
{
    for (ssize_t put; n > 0; p += put, n -= (size_t)put)
        if ((put = send(fd, p, n, MSG_NOSIGNAL)) <= 0) return false;
    return true;
}

static inline bool stage_read(int fd, char *p, size_t n)
{
    for (ssize_t got; n > 0; p += got, n -= (size_t)got)
        if ((got = read(fd, p, n)) <= 0) return false;
    return true;
}

/* A message begins with when it arrives. */
static inline bool stage_send(void *ctx, int to, const void *data, size_t n)
{
    const stage_end *e = ctx;
    const double arrives = stage_now() + e->links->delay;
    const int fd = e->links->fd[e->rank][to];
    return stage_write(fd, (const char *)&arrives, sizeof arrives) && stage_write(fd, data, n);
}

static inline bool stage_receive(void *ctx, int from, void *data, size_t n)
{
    const stage_end *e = ctx;
    double arrives;
    const int fd = e->links->fd[e->rank][from];
    if (!stage_read(fd, (char *)&arrives, sizeof arrives) || !stage_read(fd, data, n)) return false;
    const double left = arrives - stage_now();
    if (left > 0)
        nanosleep(&(struct timespec){(time_t)left, (long)((left - (time_t)left) * 1e9)}, NULL);
    return true;
}

static inline bool stage_links_open(stage_links *l, int n, double delay)
{
    *l = (stage_links){.n = n, .delay = delay};
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) {
            int pair[2];
            if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return false;
            l->fd[i][j] = pair[0];
            l->fd[j][i] = pair[1];
        }
    return true;
}

/* Nobody hears of this rank any more. */
static inline void stage_links_cut(const stage_links *l, int rank)
{
    for (int i = 0; i < l->n; i++)
        if (i != rank) shutdown(l->fd[rank][i], SHUT_RDWR);
}

static inline void stage_links_close(const stage_links *l)
{
    for (int i = 0; i < l->n; i++)
        for (int j = 0; j < l->n; j++)
            if (i != j) close(l->fd[i][j]);
}

static inline ftk_link stage_link_of(stage_end *e)
{
    return (ftk_link){e, e->rank, e->links->n, stage_send, stage_receive};
}

static inline ftk_err stage_load(ftk_model **m, const char *path, int stage, int n_stages,
                                 void (*log)(void *, ftk_log_level, const char *))
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host.log = log;
    cfg.stage = stage;
    cfg.n_stages = n_stages;
    return ftk_model_load(m, path, &cfg);
}

/* One stage below the last, in a thread. */
typedef struct stage_thread {
    pthread_t thread;
    stage_end end;
    const char *path;
    void (*log)(void *, ftk_log_level, const char *);
    ftk_err err;
} stage_thread;

static inline void *stage_main(void *ctx)
{
    stage_thread *const t = ctx;
    ftk_model *m;
    t->err = stage_load(&m, t->path, t->end.rank, t->end.links->n, t->log);
    const ftk_link link = stage_link_of(&t->end);
    if (t->err == FTK_OK) t->err = ftk_stage_run(m, &link, 1);
    ftk_model_free(m);
    return NULL;
}

#endif
