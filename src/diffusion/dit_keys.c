/* SPDX-License-Identifier: Apache-2.0
 * Reads and checks the shape of a diffusion transformer. Nothing in a file is trusted: every
 * number has a range here, such that no later product of two of them overflows an int. */
#include "dit.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "model/gguf.h"

enum {
    MAX_LAYERS = 512,
    MAX_EMBD = 1 << 14,
    MAX_FF = 1 << 17,
    MAX_SIDE = 1 << 10,
    MAX_TOKENS = 1 << 14,
    MAX_CHANNELS = 64,
    MAX_CLASSES = 1 << 20,
    MAX_TRAIN_STEPS = 1 << 14
};

ftk_err ftk_dit_key_int(const ftk_gguf *file, const char *path, const char *key, int least,
                        int most, int absent, int *out, const ftk_host *host)
{
    ftk_gguf_value v;
    *out = absent;
    if (!ftk_gguf_find(file, key, &v))
        return absent >= 0 ? FTK_OK
                           : ftk_fail(host, FTK_ERR_FORMAT, "%s: key %s is missing", path, key);
    const bool is_signed = v.type == FTK_GGUF_I8 || v.type == FTK_GGUF_I16 ||
                           v.type == FTK_GGUF_I32 || v.type == FTK_GGUF_I64;
    const bool is_whole = is_signed || v.type <= FTK_GGUF_I32 || v.type == FTK_GGUF_U64;
    if (!is_whole) return ftk_fail(host, FTK_ERR_FORMAT, "%s: key %s is not an integer", path, key);
    const uint64_t u = is_signed && v.i < 0 ? UINT64_MAX : v.u;
    if (u < (uint64_t)least || u > (uint64_t)most)
        return ftk_fail(host, FTK_ERR_FORMAT, "%s: key %s is out of range: it must be %d to %d",
                        path, key, least, most);
    *out = (int)u;
    return FTK_OK;
}

ftk_err ftk_dit_key_real(const ftk_gguf *file, const char *path, const char *key, double above,
                         double most, double absent, double *out, const ftk_host *host)
{
    ftk_gguf_value v;
    *out = absent;
    if (!ftk_gguf_find(file, key, &v))
        return isnan(absent) ? ftk_fail(host, FTK_ERR_FORMAT, "%s: key %s is missing", path, key)
                             : FTK_OK;
    if (v.type != FTK_GGUF_F32 && v.type != FTK_GGUF_F64)
        return ftk_fail(host, FTK_ERR_FORMAT, "%s: key %s is not a float", path, key);
    if (!(v.f > above && v.f <= most))
        return ftk_fail(host, FTK_ERR_FORMAT,
                        "%s: key %s is out of range: it must be above %g and at most %g", path, key,
                        above, most);
    *out = v.f;
    return FTK_OK;
}

static ftk_err key_bool(const ftk_gguf *file, const char *path, const char *key, int absent,
                        bool *out, const ftk_host *host)
{
    ftk_gguf_value v;
    *out = absent > 0;
    if (!ftk_gguf_find(file, key, &v))
        return absent >= 0 ? FTK_OK
                           : ftk_fail(host, FTK_ERR_FORMAT, "%s: key %s is missing", path, key);
    if (v.type != FTK_GGUF_BOOL)
        return ftk_fail(host, FTK_ERR_FORMAT, "%s: key %s is not a bool", path, key);
    *out = v.u != 0;
    return FTK_OK;
}

static ftk_err check_architecture(const ftk_gguf *file, const char *path, const ftk_host *host)
{
    ftk_gguf_value v;
    char shown[96];
    if (!ftk_gguf_find(file, "general.architecture", &v) || v.type != FTK_GGUF_STRING)
        return ftk_fail(host, FTK_ERR_FORMAT,
                        "%s: key general.architecture is missing or no string", path);
    if (v.s.n == 3 && memcmp(v.s.p, "dit", 3) == 0) return FTK_OK;
    return ftk_fail(host, FTK_ERR_UNSUPPORTED,
                    "%s: architecture \"%s\" is no diffusion transformer: give a file of the "
                    "architecture dit",
                    path, ftk_gguf_show(shown, sizeof shown, v.s));
}

static ftk_err read_numbers(ftk_dit_shape *s, const ftk_gguf *file, const char *path,
                            const ftk_host *host)
{
    const struct {
        const char *key;
        int least, most, absent;
        int *out;
    } whole[] = {
        {"dit.block_count", 1, MAX_LAYERS, -1, &s->n_layer},
        {"dit.embedding_length", 4, MAX_EMBD, -1, &s->n_embd},
        {"dit.attention.head_count", 1, MAX_EMBD, -1, &s->n_head},
        {"dit.feed_forward_length", 1, MAX_FF, -1, &s->n_ff},
        {"dit.patch_size", 1, 64, -1, &s->patch},
        {"dit.input_size", 1, MAX_SIDE, -1, &s->side},
        {"dit.in_channels", 1, MAX_CHANNELS, -1, &s->channels},
        {"dit.class_count", 1, MAX_CLASSES, -1, &s->n_classes},
        {"dit.timestep_frequency_length", 2, MAX_EMBD, 256, &s->n_freq},
        {"dit.diffusion.steps", 2, MAX_TRAIN_STEPS, 1000, &s->train_steps},
    };
    const struct {
        const char *key;
        double above, most, absent;
        double *out;
    } real[] = {
        {"dit.diffusion.beta_start", 0, 0.999, 1e-4, &s->beta_start},
        {"dit.diffusion.beta_end", 0, 0.999, 0.02, &s->beta_end},
    };
    ftk_err err = FTK_OK;
    for (size_t i = 0; i < sizeof whole / sizeof whole[0] && err == FTK_OK; i++)
        err = ftk_dit_key_int(file, path, whole[i].key, whole[i].least, whole[i].most,
                              whole[i].absent, whole[i].out, host);
    for (size_t i = 0; i < sizeof real / sizeof real[0] && err == FTK_OK; i++)
        err = ftk_dit_key_real(file, path, real[i].key, real[i].above, real[i].most, real[i].absent,
                               real[i].out, host);
    double eps = 0, ffn_eps = 0;
    if (err == FTK_OK)
        err = ftk_dit_key_real(file, path, "dit.attention.layer_norm_epsilon", 0, 1, 1e-6, &eps,
                               host);
    if (err == FTK_OK)
        err = ftk_dit_key_real(file, path, "dit.feed_forward.layer_norm_epsilon", 0, 1, eps,
                               &ffn_eps, host);
    if (err == FTK_OK)
        err = ftk_dit_key_real(file, path, "dit.timestep_frequency_shift", -1, 1, 0, &s->freq_shift,
                               host);
    s->norm_eps = (float)eps;
    s->ffn_norm_eps = (float)ffn_eps;
    if (err == FTK_OK)
        err = key_bool(file, path, "dit.learned_variance", -1, &s->learned_variance, host);
    if (err == FTK_OK) err = key_bool(file, path, "dit.pixel", 0, &s->pixel, host);
    if (err == FTK_OK)
        err = ftk_dit_key_int(file, path, "dit.guidance_channels", 1, s->channels,
                              s->channels < 3 ? s->channels : 3, &s->guided_channels, host);
    return err;
}

ftk_err ftk_dit_shape_read(ftk_dit_shape *s, const ftk_gguf *file, const char *path,
                           const ftk_host *host)
{
    ftk_err err = check_architecture(file, path, host);
    if (err == FTK_OK) err = read_numbers(s, file, path, host);
    if (err != FTK_OK) return err;
    if (s->n_embd % s->n_head != 0 || s->n_embd / s->n_head % 2 != 0 ||
        s->n_embd / s->n_head > FTK_MAX_HEAD_DIM)
        return ftk_fail(host, FTK_ERR_UNSUPPORTED,
                        "%s: dit.embedding_length %d by dit.attention.head_count %d gives no even "
                        "head size of at most %d",
                        path, s->n_embd, s->n_head, FTK_MAX_HEAD_DIM);
    if (s->n_freq / 2 <= s->freq_shift)
        return ftk_fail(host, FTK_ERR_FORMAT,
                        "%s: dit.timestep_frequency_length %d is too small for "
                        "dit.timestep_frequency_shift %g",
                        path, s->n_freq, s->freq_shift);
    if (s->n_embd % 4 != 0 || s->n_freq % 2 != 0)
        return ftk_fail(host, FTK_ERR_FORMAT,
                        "%s: dit.embedding_length %d must be a multiple of 4 and "
                        "dit.timestep_frequency_length %d of 2",
                        path, s->n_embd, s->n_freq);
    if (s->side % s->patch != 0)
        return ftk_fail(host, FTK_ERR_FORMAT,
                        "%s: dit.input_size %d is not a multiple of dit.patch_size %d", path,
                        s->side, s->patch);
    s->head_dim = s->n_embd / s->n_head;
    s->grid = s->side / s->patch;
    s->n_tokens = s->grid * s->grid;
    s->out_channels = s->channels * (s->learned_variance ? 2 : 1);
    if (s->n_tokens > MAX_TOKENS)
        return ftk_fail(host, FTK_ERR_UNSUPPORTED, "%s: %d tokens a sample are more than %d", path,
                        s->n_tokens, MAX_TOKENS);
    if (s->beta_end < s->beta_start)
        return ftk_fail(host, FTK_ERR_FORMAT,
                        "%s: dit.diffusion.beta_end %g is below dit.diffusion.beta_start %g", path,
                        s->beta_end, s->beta_start);
    return FTK_OK;
}
