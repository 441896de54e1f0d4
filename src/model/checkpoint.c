/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints of safetensors, to look into. */
#include <string.h>

#include "base/mem.h"
#include "model/source.h"

struct ftk_checkpoint {
    ftk_host host;
    ftk_source source;
};

bool ftk_checkpoint_is(const char *path)
{
    return path && ftk_source_is_checkpoint(path);
}

ftk_err ftk_checkpoint_open(ftk_checkpoint **out, const char *path, const ftk_host *host)
{
    *out = NULL;
    if (!path || !path[0])
        return ftk_fail(host, FTK_ERR_INVALID, "no path of a checkpoint was given");
    ftk_checkpoint *c = ftk_alloc(host, 1, sizeof *c);
    if (!c) return ftk_fail(host, FTK_ERR_NOMEM, "%s: no memory to open it", path);
    if (host) c->host = *host;
    const ftk_err err = ftk_source_look(&c->source, path, &c->host);
    if (err == FTK_OK)
        *out = c;
    else
        ftk_release(host, c);
    return err;
}

void ftk_checkpoint_free(ftk_checkpoint *c)
{
    if (!c) return;
    const ftk_host h = c->host;
    ftk_source_close(&c->source);
    ftk_release(&h, c);
}

size_t ftk_checkpoint_n_files(const ftk_checkpoint *c)
{
    return (size_t)c->source.n_parts;
}

size_t ftk_checkpoint_n_tensors(const ftk_checkpoint *c)
{
    return ftk_source_n_tensors(&c->source);
}

void ftk_checkpoint_tensor_at(const ftk_checkpoint *c, size_t i, ftk_checkpoint_tensor *t)
{
    int file;
    const ftk_safetensor *const from = ftk_source_at(&c->source, i, &file);
    *t = (ftk_checkpoint_tensor){.name = from->name,
                                 .type = from->type,
                                 .n_dims = (uint32_t)from->n_dims,
                                 .file = (uint32_t)file,
                                 .offset = from->offset,
                                 .size = from->size};
    memcpy(t->dims, from->dims, sizeof t->dims);
}

ftk_str ftk_checkpoint_config(const ftk_checkpoint *c)
{
    const ftk_mapped *const f = &c->source.config_file;
    return f->p ? (ftk_str){f->p, f->n} : (ftk_str){"", 0};
}
