/* SPDX-License-Identifier: Apache-2.0
 * For builds without libsentencepiece and PCRE2 (FTK_DEVICE_ONLY): vocabularies are read and tokens
 * turn into text, but texts do not turn into tokens. */
#include "model/pretokenizer.h"
#include "model/sentencepiece_shim.h"

ftk_err ftk_spm_open(ftk_spm **out, const void *proto, size_t n, char *why, size_t cap)
{
    (void)proto, (void)n, (void)why, (void)cap;
    *out = NULL;
    return FTK_OK;
}

void ftk_spm_free(ftk_spm *s)
{
    (void)s;
}

ftk_err ftk_spm_encode(const ftk_spm *s, const char *text, size_t n, ftk_spm_sink *sink, void *ctx)
{
    (void)s, (void)text, (void)n, (void)sink, (void)ctx;
    return FTK_ERR_UNSUPPORTED;
}

const ftk_pre_rule *ftk_pre_find(ftk_str name)
{
    static const ftk_pre_rule any = {.names = "default"};
    (void)name;
    return &any;
}

ftk_err ftk_pre_open(ftk_pre **out, const ftk_pre_rule *rule, const ftk_host *host)
{
    (void)rule, (void)host;
    *out = NULL;
    return FTK_OK;
}

void ftk_pre_free(ftk_pre *p)
{
    (void)p;
}

ftk_err ftk_pre_split(const ftk_pre *p, const char *text, size_t n, ftk_pre_sink *sink, void *ctx)
{
    (void)p, (void)text, (void)n, (void)sink, (void)ctx;
    return FTK_ERR_UNSUPPORTED;
}
