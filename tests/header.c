/* SPDX-License-Identifier: Apache-2.0
 * The public headers compile alone as C11. The second includes the first. */
#include "foretoken_diffusion.h"

int ftk_header_is_c(void);

int ftk_header_is_c(void)
{
    return FTK_OK;
}
