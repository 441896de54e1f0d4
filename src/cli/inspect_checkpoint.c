/* SPDX-License-Identifier: Apache-2.0
 * foretoken inspect: configuration and tensors of a checkpoint of safetensors. */
#include <stdlib.h>
#include <string.h>

#include "inspect.h"

static json_t *text_of(ftk_str s)
{
    return cli_json_text(s.p, s.n);
}

/* The library has checked that it is JSON; what jansson thinks otherwise of is shown as a text. */
static json_t *config_of(const ftk_checkpoint *c)
{
    const ftk_str text = ftk_checkpoint_config(c);
    json_t *j = text.n ? json_loadb(text.p, text.n, 0, NULL) : json_null();
    return j ? j : text_of(text);
}

static void print_json(const ftk_checkpoint *c, const cli_options *o)
{
    json_t *tensors = json_array(), *j = json_object();
    for (size_t i = 0; i < ftk_checkpoint_n_tensors(c); i++) {
        ftk_checkpoint_tensor t;
        ftk_checkpoint_tensor_at(c, i, &t);
        json_t *dims = json_array(), *one = json_object();
        for (uint32_t d = 0; d < t.n_dims; d++)
            json_array_append_new(dims, cli_json_unsigned(t.dims[d]));
        json_object_set_new(one, "name", text_of(t.name));
        json_object_set_new(one, "type", text_of(t.type));
        json_object_set_new(one, "shape", dims);
        json_object_set_new(one, "file", json_integer(t.file));
        json_object_set_new(one, "offset", cli_json_unsigned(t.offset));
        json_object_set_new(one, "bytes", cli_json_unsigned(t.size));
        json_array_append_new(tensors, one);
    }
    json_object_set_new(j, "path", cli_json_text(o->operand, strlen(o->operand)));
    json_object_set_new(j, "files", cli_json_unsigned(ftk_checkpoint_n_files(c)));
    json_object_set_new(j, "config", config_of(c));
    json_object_set_new(j, "tensors", tensors);
    cli_out_json(j);
}

static void add_shown(cli_bytes *out, ftk_str s)
{
    char shown[256];
    cli_bytes_add(out, shown, ftk_show(s.p, s.n, 0, shown, sizeof shown));
}

static void add_tensor(cli_bytes *out, const ftk_checkpoint_tensor *t)
{
    char line[160], dims[100] = "";
    for (uint32_t d = 0; d < t->n_dims; d++) {
        const size_t n = strlen(dims);
        snprintf(dims + n, sizeof dims - n, "%s%llu", d ? " x " : "",
                 (unsigned long long)t->dims[d]);
    }
    add_shown(out, t->name);
    cli_bytes_add(out, "  ", 2);
    add_shown(out, t->type);
    snprintf(line, sizeof line, "  %s  %llu bytes\n", dims, (unsigned long long)t->size);
    cli_bytes_add(out, line, strlen(line));
}

static void print_text(const ftk_checkpoint *c, const cli_options *o)
{
    cli_bytes out = {0};
    char line[128];
    add_shown(&out, (ftk_str){o->operand, strlen(o->operand)});
    snprintf(line, sizeof line, "\nsafetensors, %zu files, %zu tensors\n\n",
             ftk_checkpoint_n_files(c), ftk_checkpoint_n_tensors(c));
    cli_bytes_add(&out, line, strlen(line));
    json_t *config = config_of(c);
    const char *key;
    json_t *value;
    json_object_foreach(config, key, value)
    {
        char *text =
            json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(9));
        add_shown(&out, (ftk_str){key, strlen(key)});
        cli_bytes_add(&out, "  ", 2);
        if (text) add_shown(&out, (ftk_str){text, strlen(text)});
        cli_bytes_add(&out, "\n", 1);
        free(text);
    }
    if (json_object_size(config) > 0) cli_bytes_add(&out, "\n", 1);
    json_decref(config);
    for (size_t i = 0; i < ftk_checkpoint_n_tensors(c); i++) {
        ftk_checkpoint_tensor t;
        ftk_checkpoint_tensor_at(c, i, &t);
        add_tensor(&out, &t);
    }
    cli_out(out.p, out.n);
    cli_bytes_free(&out);
}

int inspect_checkpoint(const cli_options *o)
{
    const ftk_host host = cli_host();
    ftk_checkpoint *c;
    const ftk_err err = ftk_checkpoint_open(&c, o->operand, &host);
    if (err != FTK_OK) return cli_fail(err, o->operand);
    if (o->json)
        print_json(c, o);
    else
        print_text(c, o);
    ftk_checkpoint_free(c);
    return cli_out_status();
}
