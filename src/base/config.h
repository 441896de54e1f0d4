/* SPDX-License-Identifier: Apache-2.0
 *
 * Structs of the public header that begin with their size, so that caller and library may have been
 * compiled with versions of the header that know different fields. New fields come last.
 */
#ifndef FTK_CONFIG_H
#define FTK_CONFIG_H

#include "foretoken.h"

enum { FTK_CONFIG_MOST = 4096 }; /* bytes: a size above it was never written by anybody */

/* Defaults to a caller: of ours[n_ours] what the caller's size covers, zeros behind it, and the
 * size. */
void ftk_config_give(void *theirs, size_t size, const void *ours, size_t n_ours);
/* A caller's struct into ours, which holds the defaults: what its size covers. what: for the
 * message. Errors: INVALID (no size that such a struct can have, so not made by its _init
 * function), UNSUPPORTED (it is larger than ours, and what is behind ours is not zero). */
ftk_err ftk_config_take(void *ours, size_t n_ours, const void *theirs, const char *what,
                        const ftk_host *h);
/* Figures to a caller: as much of ours as the caller's size covers, zeros behind it. */
void ftk_config_report(void *theirs, size_t size, const void *ours, size_t n_ours);

#endif
