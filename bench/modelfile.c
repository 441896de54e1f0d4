/* SPDX-License-Identifier: Apache-2.0
 * Writes a GGUF tensor by tensor. */
#include "modelfile.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/kernels.h"
#include "run.h"

/* The unfinished file, for the handlers; empty when there is none. */
static char part[4096];

static void drop_part(void)
{
    if (part[0]) unlink(part);
}

static void drop_part_and_die(int sig)
{
    drop_part();
    signal(sig, SIG_DFL);
    raise(sig);
}

_Noreturn static void cannot_write(void)
{
    run_die("%s cannot be written: %s", part, strerror(errno));
}

static uint64_t aligned(const modelfile *m, uint64_t n)
{
    return (n + m->head.alignment - 1) / m->head.alignment * m->head.alignment;
}

void modelfile_init(modelfile *m)
{
    *m = (modelfile){0};
    gw_init(&m->head);
}

void modelfile_plan(modelfile *m, const char *name, int n_in, int n_out, ftk_type type)
{
    const uint64_t dims[2] = {(uint64_t)n_in, (uint64_t)n_out};
    const size_t row = ftk_type_bytes(type, (size_t)n_in);
    if (row == 0)
        run_refuse("%s: rows of %d weights are no multiple of the %zu in a block of %s", name, n_in,
                   ftk_type_block(type), ftk_type_name(type));
    gw_record(&m->head, name, strlen(name), n_out ? 2 : 1, dims, type, m->planned);
    m->planned = aligned(m, m->planned + (uint64_t)row * (n_out ? (uint64_t)n_out : 1));
}

void modelfile_begin(modelfile *m, const char *path)
{
    struct stat there;
    m->path = path;
    if (stat(path, &there) == 0 && !S_ISREG(there.st_mode)) /* a file would take its place */
        run_die("%s cannot be written: it is no regular file", path);
    if (snprintf(part, sizeof part, "%s.part", path) >= (int)sizeof part) {
        part[0] = 0;
        run_die("%.40s...: the name is too long", path);
    }
    FILE *f = fopen(part, "wb");
    if (!f) {
        const char *why = strerror(errno);
        part[0] = 0; /* whatever stands there is not ours to remove */
        run_die("%s.part cannot be written: %s", path, why);
    }
    m->f = f;
    atexit(drop_part);
    signal(SIGINT, drop_part_and_die);
    signal(SIGTERM, drop_part_and_die);
    signal(SIGHUP, drop_part_and_die);

    gw_bytes head = gw_finish(&m->head);
    gw_put(&head, NULL, (size_t)(aligned(m, head.n) - head.n));
    const uint64_t whole = head.n + m->planned;
    if (fallocate(fileno(f), 0, 0, (off_t)whole) != 0 && errno == ENOSPC)
        run_die("%s needs %llu MiB: there is less room on that disk", path,
                (unsigned long long)(whole >> 20) + 1);
    if (fwrite(head.p, 1, head.n, f) != head.n) cannot_write();
    free(head.p);
}

void modelfile_write(modelfile *m, const void *p, size_t n)
{
    if (fwrite(p, 1, n, m->f) != n) cannot_write();
    m->written += n;
}

void modelfile_align(modelfile *m)
{
    static const char zeros[64];
    while (m->written % m->head.alignment != 0) {
        const size_t gap = m->head.alignment - m->written % m->head.alignment;
        modelfile_write(m, zeros, gap < sizeof zeros ? gap : sizeof zeros);
    }
}

uint64_t modelfile_end(modelfile *m)
{
    if (m->written != m->planned)
        run_die("%s: %llu bytes of tensors were planned, %llu written: a bug of this program",
                m->path, (unsigned long long)m->planned, (unsigned long long)m->written);
    const long size = ftell(m->f);
    if (size < 0 || fclose(m->f) != 0) cannot_write();
    if (rename(part, m->path) != 0) run_die("%s cannot be written: %s", m->path, strerror(errno));
    part[0] = 0;
    gw_free(&m->head);
    return (uint64_t)size;
}
