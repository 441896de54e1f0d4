/* SPDX-License-Identifier: Apache-2.0
 *
 * The floating-point environment that all results are made in: rounding to nearest, denormal
 * numbers kept, no traps. A host may have set another for its thread, and so a function of the
 * public header that computes enters ours and leaves it again; our own threads enter it once. */
#ifndef FTK_FLOATS_H
#define FTK_FLOATS_H

#include <fenv.h>

#include "foretoken.h"

typedef struct ftk_floats {
    fenv_t caller;
} ftk_floats;

/* Returns the caller's. */
static inline ftk_floats ftk_floats_enter(void)
{
    ftk_floats f;
    fegetenv(&f.caller);
    fesetenv(FE_DFL_ENV);
    return f;
}

/* The caller's environment is back, exceptions that were raised in between not among its flags. */
static inline void ftk_floats_leave(const ftk_floats *f)
{
    fesetenv(&f->caller);
}

/* The same, and what was computed in between: return ftk_floats_after(&floats, compute()); */
static inline ftk_err ftk_floats_after(const ftk_floats *f, ftk_err err)
{
    ftk_floats_leave(f);
    return err;
}

#endif
