/* SPDX-License-Identifier: Apache-2.0
 * What the tests of bad model files share: the file of the test, and what its loading must say. */
#ifndef FTK_TESTS_BADFILE_H
#define FTK_TESTS_BADFILE_H

#include "onebad.h"

static char path[64];

static inline void choose_path(void)
{
    snprintf(path, sizeof path, "/tmp/ftk-test-bad-%ld.gguf", (long)getpid());
}

static inline int refused(const char *what, const char *p, attempt *try, ftk_err err,
                          const char *line)
{
    return check(what, p, try, err, p, line);
}

/* Saves what was written, and loads it. */
static inline int check_model(gw *w, const char *what, ftk_err err, const char *line)
{
    gw_bytes file = gw_finish(w);
    assert_true(gw_save(path, file.p, file.n));
    free(file.p);
    gw_free(w);
    return refused(what, path, try_model, err, line);
}

#endif
