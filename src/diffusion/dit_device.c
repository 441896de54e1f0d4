/* SPDX-License-Identifier: Apache-2.0
 * In builds without CUDA: that there is no device. */
#include "dit_device.h"

#include <stdio.h>

#include "model/device.h"

#ifndef FTK_HAVE_CUDA
ftk_err ftk_dit_device_open(ftk_dit_device **out, const ftk_dit *m,
                            const ftk_dit_device_config *cfg, char *why, size_t cap)
{
    (void)m;
    *out = NULL;
    return ftk_device_missing(cfg->name, why, cap);
}
#endif
