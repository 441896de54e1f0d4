/* SPDX-License-Identifier: Apache-2.0
 * Names of errors, and the version. */
#include "foretoken.h"

const char *ftk_strerror(ftk_err err)
{
    switch (err) {
#define TEXT(name, value, text)                                                                    \
    case FTK_##name: return text;
        FTK_ERR_LIST(TEXT)
#undef TEXT
    }
    return "unknown error";
}

const char *ftk_version(void)
{
    return "0.1.0";
}
