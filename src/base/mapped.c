/* SPDX-License-Identifier: Apache-2.0
 * A whole file, mapped to be read. */
#include "base/mapped.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static ftk_err map(ftk_mapped *m, int fd, const char *shown, const ftk_host *host)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return ftk_fail(host, FTK_ERR_IO, "%s: cannot be examined: %s", shown, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return ftk_fail(host, FTK_ERR_IO, "%s: is not a regular file, so it cannot be mapped",
                        shown);
    if (st.st_size == 0) return ftk_fail(host, FTK_ERR_FORMAT, "%s: is empty: get it again", shown);
    if ((uintmax_t)st.st_size > SIZE_MAX / 2)
        return ftk_fail(host, FTK_ERR_UNSUPPORTED,
                        "%s: is too large for this machine's address space", shown);
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return ftk_fail(host, FTK_ERR_IO, "%s: cannot be mapped: %s", shown, strerror(errno));
    *m = (ftk_mapped){p, (size_t)st.st_size};
    return FTK_OK;
}

ftk_err ftk_mapped_open(ftk_mapped *m, const char *path, const char *shown, const ftk_host *host)
{
    *m = (ftk_mapped){NULL, 0};
    /* O_NONBLOCK: opening a pipe must not wait for a writer. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return ftk_fail(host, FTK_ERR_IO, "%s: cannot be opened: %s", shown, strerror(errno));
    const ftk_err err = map(m, fd, shown, host);
    close(fd);
    return err;
}

void ftk_mapped_close(ftk_mapped *m)
{
    if (m->p) munmap((void *)(uintptr_t)m->p, m->n);
    *m = (ftk_mapped){NULL, 0};
}
