// SPDX-License-Identifier: Apache-2.0
// The public headers compile alone as C++. The second includes the first.
#include "foretoken_diffusion.h"

int ftk_header_is_cxx();

int ftk_header_is_cxx()
{
    return FTK_OK;
}
