/* SPDX-License-Identifier: Apache-2.0
 * What the tests of diffusion transformers share. */
#ifndef FTK_TESTS_DITSUPPORT_H
#define FTK_TESTS_DITSUPPORT_H

#include "support.h"

#include "ditmodel.h"
#include "foretoken_diffusion.h"

/* A model in a file that is gone once it is loaded. */
static inline ftk_dit *load_dit(const dm_model *m, const char *level)
{
    char path[] = "/tmp/foretoken-dit-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_true(dm_save(m, path));
    ftk_dit_config cfg;
    ftk_dit_config_init(&cfg);
    cfg.host.log = print_log;
    cfg.kernels = level;
    ftk_dit *dit;
    assert_int_equal(ftk_dit_load(&dit, path, &cfg), FTK_OK);
    unlink(path);
    return dit;
}

/* Floats of a sample. */
static inline size_t sample_size(const ftk_dit *m)
{
    ftk_dit_info info;
    ftk_dit_get_info(m, &info);
    return (size_t)info.channels * (size_t)info.side * (size_t)info.side;
}

static inline ftk_cache_config cache_named(const char *name)
{
    ftk_cache_config c;
    ftk_cache_config_init(&c);
    c.name = name;
    return c;
}

static inline ftk_diffusion *open_diffusion(const ftk_dit *m, const ftk_diffusion_config *cfg)
{
    ftk_diffusion *d;
    assert_int_equal(ftk_diffusion_open(&d, m, cfg), FTK_OK);
    return d;
}

static inline void run_diffusion(ftk_diffusion *d, const int32_t *labels, const uint64_t *seeds,
                                 int n)
{
    assert_int_equal(ftk_diffusion_begin(d, labels, seeds, NULL, n), FTK_OK);
    while (ftk_diffusion_left(d) > 0) assert_int_equal(ftk_diffusion_step(d), FTK_OK);
}

#endif
