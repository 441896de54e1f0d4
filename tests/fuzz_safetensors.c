/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target of the safetensors reader: any bytes are opened, then everything is read. */
#include "fuzzing.h"

#include <stdlib.h>
#include <string.h>

#include "model/safetensors.h"

/* Reads every byte, so that the sanitizer sees a view that lies outside. */
static unsigned walk(const ftk_safetensors *s)
{
    unsigned sum = 0;
    for (size_t i = 0; i < s->n; i++) {
        const ftk_safetensor *const t = &s->items[i];
        for (uint64_t j = 0; j < t->size; j++) sum += ((const unsigned char *)t->data)[j];
        char *name = strndup(t->name.p, t->name.n);
        if (!name) abort();
        if (strlen(name) == t->name.n && ftk_safetensors_find(s, name) != t) abort();
        free(name);
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int n_errors;
    ftk_safetensors s;
    const ftk_host *const host = fuzz_host(&n_errors);
    const ftk_err err = ftk_safetensors_open(&s, fuzz_file(data, size), host);
    if (n_errors != (err != FTK_OK)) abort();
    volatile unsigned sum = walk(&s);
    (void)sum;
    ftk_safetensors_close(&s, host);
    return 0;
}

/* ------------------------------------------------------------------ seeds */

static const char *const headers[] = {
    "{}",
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}",
    "{\"__metadata__\":{\"format\":\"pt\"},\"b.weight\":{\"dtype\":\"BF16\",\"shape\":[4],"
    "\"data_offsets\":[8,16]},\"d2t\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}}   ",
    "{\"x\\u00e9\":{\"dtype\":\"BOOL\",\"shape\":[0],\"data_offsets\":[0,0]},\"s\":{\"shape\":[],"
    "\"dtype\":\"F16\",\"data_offsets\":[0,2],\"more\":[null,true,-1.5e-3,{\"k\":[]}]}}",
};
static const size_t bytes[] = {0, 24, 16, 2};

bool fuzz_seed(size_t i, gw_bytes *out)
{
    static const unsigned char zeros[32];
    if (i >= sizeof headers / sizeof *headers) return false;
    gw_put_u64(out, strlen(headers[i]));
    gw_put(out, headers[i], strlen(headers[i]));
    gw_put(out, zeros, bytes[i]);
    return true;
}
