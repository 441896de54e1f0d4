/* SPDX-License-Identifier: Apache-2.0
 * Names of devices; and, in builds without CUDA, that there is none. */
#include "device.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

bool ftk_device_known(const char *name, int *ordinal)
{
    enum { MOST = 1024 };
    *ordinal = 0;
    if (strncmp(name, "cuda", 4) != 0) return false;
    if (name[4] == 0) return true;
    if (name[4] != ':' || name[5] == 0 || name[5 + strspn(name + 5, "0123456789")]) return false;
    const unsigned long n = strtoul(name + 5, NULL, 10);
    *ordinal = n < MOST ? (int)n : MOST;
    return n < MOST;
}

#ifndef FTK_HAVE_CUDA
ftk_err ftk_device_missing(const char *name, char *why, size_t cap)
{
    int ordinal;
    return ftk_device_known(name, &ordinal)
               ? ftk_why(why, cap, FTK_ERR_UNSUPPORTED, "device %s: this build has no CUDA", name)
               : ftk_why(why, cap, FTK_ERR_INVALID, FTK_DEVICE_UNKNOWN, name);
}

ftk_err ftk_device_open(ftk_device **out, const ftk_model *m, const ftk_device_config *cfg,
                        char *why, size_t cap)
{
    (void)m;
    *out = NULL;
    return ftk_device_missing(cfg->name, why, cap);
}
#endif
