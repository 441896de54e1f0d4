/* SPDX-License-Identifier: Apache-2.0
 * A server that is started for a test, and a small client of HTTP. */
#ifndef FTK_TESTS_SERVECLIENT_H
#define FTK_TESTS_SERVECLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

typedef struct server {
    pid_t pid;
    int port;
    FILE *log; /* what it says */
} server;

/* "foretoken serve --demo --port 0 -t 1" and further words, NULL-terminated; without --demo where
 * the first one is -m. Waits until it listens. */
server server_start(const char *const *args);
/* Sends SIGTERM and waits. Returns the exit status. */
int server_stop(server *s);
/* Without the signal. */
int server_wait(server *s);
/* All that it has said so far; to be freed. */
char *server_said(const server *s);

typedef struct reply {
    int status;
    char *head, *body; /* terminated; the body without its chunks' lengths */
    size_t n;
    json_t *json; /* of the body, or NULL */
} reply;

/* A connection; window: most bytes that lie unread here, 0: as usual. */
int http_open(const server *s, int window);
/* headers: lines with \r\n each, or "". */
void http_send(int fd, const char *method, const char *path, const char *headers, const char *body);
/* Reads one answer whole. status is 0 where the connection ended before its head did. */
reply http_read(int fd);
void reply_free(reply *r);

/* One request on a connection of its own. */
reply ask(const server *s, const char *method, const char *path, const char *body);
reply post(const server *s, const char *path, const char *body);

/* A figure of /metrics, whose line starts with "foretoken:" and this, up to the blank. */
double figure(const server *s, const char *name);
/* Waits up to two minutes until it is v. */
bool figure_becomes(const server *s, const char *name, double v);

/* What "foretoken generate --demo -t 1" and these words print, without the last newline; to be
 * freed. */
char *generate(const char *const *args);

/* answer[a][b][c], of lists the first; b and c may be NULL. As text "(no text)" where it is
 * none. */
const json_t *json_at(const reply *r, const char *a, const char *b, const char *c);
const char *text_at(const reply *r, const char *a, const char *b, const char *c);

/* The text of an answer's choice, whole or out of events; to be freed. */
char *text_of(const reply *r, size_t choice);
char *streamed_text(const reply *r, size_t choice, bool chat);

#endif
