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

static ftk_err map(ftk_mapped *m, int fd, const char *path, const ftk_host *host)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return ftk_fail(host, FTK_ERR_IO, "%s: cannot be examined: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return ftk_fail(host, FTK_ERR_IO, "%s: is no regular file", path);
    if (st.st_size == 0) return ftk_fail(host, FTK_ERR_FORMAT, "%s: is empty: get it again", path);
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return ftk_fail(host, FTK_ERR_IO, "%s: cannot be mapped: %s", path, strerror(errno));
    *m = (ftk_mapped){p, (size_t)st.st_size};
    return FTK_OK;
}

ftk_err ftk_mapped_open(ftk_mapped *m, const char *path, const ftk_host *host)
{
    *m = (ftk_mapped){NULL, 0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return ftk_fail(host, FTK_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    const ftk_err err = map(m, fd, path, host);
    close(fd);
    return err;
}

void ftk_mapped_close(ftk_mapped *m)
{
    if (m->p) munmap((void *)(uintptr_t)m->p, m->n);
    *m = (ftk_mapped){NULL, 0};
}
