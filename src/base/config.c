/* SPDX-License-Identifier: Apache-2.0
 * Structs that grow. */
#include "base/config.h"

#include <string.h>

#include "base/mem.h"

void ftk_config_report(void *theirs, size_t size, const void *ours, size_t n_ours)
{
    const size_t known = size < n_ours ? size : n_ours;
    memcpy(theirs, ours, known);
    memset((char *)theirs + known, 0, size - known);
}

void ftk_config_give(void *theirs, size_t size, const void *ours, size_t n_ours)
{
    ftk_config_report(theirs, size, ours, n_ours);
    if (size >= sizeof size) memcpy(theirs, &size, sizeof size);
}

ftk_err ftk_config_take(void *ours, size_t n_ours, const void *theirs, const char *what,
                        const ftk_host *h)
{
    size_t size = 0;
    if (theirs) memcpy(&size, theirs, sizeof size);
    if (size < sizeof size || size > FTK_CONFIG_MOST || size % sizeof size != 0)
        return ftk_fail(h, FTK_ERR_INVALID, "the %s config was not made by ftk_%s_config_init()",
                        what, what);
    for (size_t i = n_ours; i < size; i++)
        if (((const char *)theirs)[i] != 0)
            return ftk_fail(
                h, FTK_ERR_UNSUPPORTED,
                "the %s config sets something that foretoken %s does not know: use a newer "
                "library, or leave it zero",
                what, ftk_version());
    memcpy(ours, theirs, size < n_ours ? size : n_ours);
    memcpy(ours, &n_ours, sizeof n_ours);
    return FTK_OK;
}
