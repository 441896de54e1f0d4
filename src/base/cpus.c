/* SPDX-License-Identifier: Apache-2.0
 * Affinity, and the CPU quota of control groups. */
#include "cpus.h"

#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "team.h"

enum { PATH = 4096 };

/* ---- lines of a file, without memory of the C library's */

typedef struct lines {
    int fd;
    char text[2 * PATH]; /* [at, end) is still to be given */
    size_t at, end;
} lines;

static bool open_lines(lines *l, const char *root, const char *path)
{
    char full[2 * PATH];
    l->at = l->end = 0;
    l->fd = snprintf(full, sizeof full, "%s%s", root, path) < (int)sizeof full
                ? open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
                : -1;
    return l->fd >= 0;
}

static bool fill(lines *l)
{
    memmove(l->text, l->text + l->at, l->end - l->at);
    l->end -= l->at;
    l->at = 0;
    const ssize_t n = read(l->fd, l->text + l->end, sizeof l->text - 1 - l->end);
    if (n > 0) l->end += (size_t)n;
    return n > 0;
}

/* The next line, or what there is room for of a longer one; NULL at the end. */
static char *next_line(lines *l)
{
    char *stop;
    while (!(stop = memchr(l->text + l->at, '\n', l->end - l->at)) && fill(l)) {
    }
    if (!stop && l->at == l->end) return NULL;
    char *const line = l->text + l->at;
    if (!stop) stop = l->text + l->end;
    l->at = (size_t)(stop - l->text) + (stop < l->text + l->end);
    *stop = 0;
    return line;
}

/* ---- control groups */

/* Whether a list such as "rw,cpu,cpuacct" has the word. */
static bool has_word(const char *list, const char *word)
{
    const size_t n = strlen(word);
    for (const char *p = list; (p = strstr(p, word)); p += n)
        if ((p == list || p[-1] == ',') && (p[n] == 0 || p[n] == ',')) return true;
    return false;
}

/* A line of mountinfo: ID PARENT DEVICE ROOT POINT OPTIONS [TAG...] - TYPE SOURCE OPTIONS */
typedef struct mount {
    char *root, *point, *type, *options;
} mount;

/* Blanks and the like stand as \040 in a path. */
static void unescape(char *path)
{
    char *to = path;
    for (const char *from = path; *from; to++) {
        const bool escaped = from[0] == '\\' && from[1] >= '0' && from[1] <= '3' &&
                             from[2] >= '0' && from[2] <= '7' && from[3] >= '0' && from[3] <= '7';
        *to =
            escaped ? (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0')) : *from;
        from += escaped ? 4 : 1;
    }
    *to = 0;
}

static bool read_mount(char *line, mount *m)
{
    char *words[64], *rest = line;
    int n = 0, dash = 0;
    for (char *word; n < 64 && (word = strtok_r(rest, " ", &rest)); n++) {
        if (n > 5 && dash == 0 && strcmp(word, "-") == 0) dash = n;
        words[n] = word;
    }
    if (dash == 0 || dash + 3 >= n) return false;
    *m = (mount){words[3], words[4], words[dash + 1], words[dash + 3]};
    unescape(m->root);
    unescape(m->point);
    return true;
}

/* This process's group in the hierarchy of a mount: HIERARCHY:CONTROLLERS:PATH. */
static bool find_group(const char *root, bool v2, char *path)
{
    lines l;
    if (!open_lines(&l, root, "/proc/self/cgroup")) return false;
    bool found = false;
    for (char *line; !found && (line = next_line(&l));) {
        char *const list = strchr(line, ':'), *const group = list ? strchr(list + 1, ':') : NULL;
        if (!group) continue;
        *group = 0;
        found = v2 ? strcmp(line, "0:") == 0 : has_word(list + 1, "cpu");
        if (found) snprintf(path, PATH, "%s", group + 1);
    }
    close(l.fd);
    return found;
}

/* The first two numbers of a file; false where it is missing, or says "max". */
static bool read_numbers(const char *root, const char *folder, const char *name, double *a,
                         double *b)
{
    char path[PATH + 32];
    lines l;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) return false;
    if (!open_lines(&l, root, path)) return false;
    char *const line = next_line(&l);
    close(l.fd);
    if (!line) return false;
    char *end;
    *a = (double)strtoll(line, &end, 10);
    if (end == line) return false;
    if (b) *b = (double)strtoll(end, NULL, 10);
    return true;
}

/* Processors that one group may use, or 0. */
static double quota_of(const char *root, const char *folder, bool v2)
{
    double quota = 0, period = 0;
    const bool found = v2 ? read_numbers(root, folder, "cpu.max", &quota, &period)
                          : read_numbers(root, folder, "cpu.cfs_quota_us", &quota, NULL) &&
                                read_numbers(root, folder, "cpu.cfs_period_us", &period, NULL);
    return found && quota > 0 && period > 0 ? quota / period : 0;
}

/* The least of a group and those it lies in, as far as the mount shows them. A group that lies
 * elsewhere, as a namespace may have it, is the mount's own root. */
static double least_above(const char *root, const mount *m, const char *group, bool v2)
{
    const size_t n_root = strcmp(m->root, "/") == 0 ? 0 : strlen(m->root);
    const bool below = strncmp(group, m->root, n_root) == 0 &&
                       (group[n_root] == '/' || group[n_root] == 0) && !strstr(group, "/..");
    char folder[2 * PATH];
    const int n = snprintf(folder, sizeof folder, "%s%s", m->point, below ? group + n_root : "");
    if (n >= (int)sizeof folder) return 0;
    const size_t n_point = strlen(m->point);
    double least = 0;
    for (;;) {
        const double quota = quota_of(root, folder, v2);
        if (quota > 0 && (least == 0 || quota < least)) least = quota;
        char *const slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < n_point) return least;
        *slash = 0;
    }
}

double ftk_cpus_quota(const char *root)
{
    lines l;
    if (!open_lines(&l, root, "/proc/self/mountinfo")) return 0;
    double least = 0;
    mount m;
    char group[PATH];
    for (char *line; (line = next_line(&l));) {
        if (!read_mount(line, &m)) continue;
        const bool v2 = strcmp(m.type, "cgroup2") == 0;
        if (!v2 && (strcmp(m.type, "cgroup") != 0 || !has_word(m.options, "cpu"))) continue;
        if (!find_group(root, v2, group)) continue;
        const double quota = least_above(root, &m, group, v2);
        if (quota > 0 && (least == 0 || quota < least)) least = quota;
    }
    close(l.fd);
    return least;
}

static int affinity(void)
{
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

int ftk_cpus(void)
{
    const double quota = ftk_cpus_quota("");
    int n = affinity();
    if (quota > 0 && quota < n) n = (int)ceil(quota);
    return n < 1 ? 1 : n < FTK_MAX_THREADS ? n : FTK_MAX_THREADS;
}
