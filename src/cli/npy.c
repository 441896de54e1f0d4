/* SPDX-License-Identifier: Apache-2.0
 * NumPy's format. */
#include "npy.h"

#include <stdint.h>
#include <string.h>

enum { HEAD = 128, TEXT_AT = 10 };

bool cli_npy_write(FILE *f, const float *x, const int dims[4])
{
    char head[HEAD + 1];
    memset(head, ' ', sizeof head);
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    head[8] = HEAD - TEXT_AT; /* a length in two bytes */
    head[9] = 0;
    const int n = snprintf(head + TEXT_AT, sizeof head - TEXT_AT,
                           "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d, %d, %d), }",
                           dims[0], dims[1], dims[2], dims[3]);
    head[TEXT_AT + n] = ' ';
    head[HEAD - 1] = '\n';
    bool ok = fwrite(head, 1, HEAD, f) == HEAD;
    const size_t count = (size_t)dims[0] * (size_t)dims[1] * (size_t)dims[2] * (size_t)dims[3];
    for (size_t i = 0; i < count && ok; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        const unsigned char bytes[4] = {(unsigned char)bits, (unsigned char)(bits >> 8),
                                        (unsigned char)(bits >> 16), (unsigned char)(bits >> 24)};
        ok = fwrite(bytes, 1, sizeof bytes, f) == sizeof bytes;
    }
    return ok;
}
