/* SPDX-License-Identifier: Apache-2.0
 * Formats of answers. A grammar is made by the thread that reads the request, and kept: the next
 * one with the same schema finds its masks known. */
#include <string.h>

#include "serve/fields.h"

void serve_format_unref(serve_format *f)
{
    if (!f || atomic_fetch_sub(&f->refs, 1) > 1) return;
    grammar_free(f->g);
    free(f->key);
    free(f);
}

static char *key_of(const grammar_piece *pieces, size_t n, const char *between, size_t most)
{
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(
            all, json_pack("[s,O,s]", pieces[i].before, pieces[i].schema, pieces[i].after));
    json_array_append_new(all, json_pack("[s,I]", between, (json_int_t)most));
    return serve_dump(all);
}

/* Under the lock: the one of this key, in front of the others, with a reference more; or NULL. */
static serve_format *find(serve_server *s, const char *key)
{
    for (size_t i = 0; i < SERVE_KEPT_FORMATS && s->formats[i]; i++) {
        serve_format *const f = s->formats[i];
        if (strcmp(f->key, key) != 0) continue;
        memmove(s->formats + 1, s->formats, i * sizeof *s->formats);
        s->formats[0] = f;
        atomic_fetch_add(&f->refs, 1);
        return f;
    }
    return NULL;
}

/* Under the lock. Returns the one that has to go, or NULL. */
static serve_format *keep(serve_server *s, serve_format *f)
{
    serve_format *const gone = s->formats[SERVE_KEPT_FORMATS - 1];
    memmove(s->formats + 1, s->formats, (SERVE_KEPT_FORMATS - 1) * sizeof *s->formats);
    s->formats[0] = f;
    atomic_fetch_add(&f->refs, 1);
    return gone;
}

/* Two threads may make it at the same time; one is thrown away. */
static const grammar_words *words_of(serve_server *s)
{
    pthread_mutex_lock(&s->lock);
    grammar_words *words = s->words;
    pthread_mutex_unlock(&s->lock);
    if (words) return words;
    int32_t shown[SERVE_CALL_WORDS];
    for (size_t i = 0; i < s->n_call_words; i++) shown[i] = s->call_words[i].token;
    grammar_words *const made =
        grammar_words_new(s->w.model, s->w.info.n_vocab, shown, s->n_call_words);
    pthread_mutex_lock(&s->lock);
    const bool first = !s->words;
    if (first) s->words = made;
    words = s->words;
    pthread_mutex_unlock(&s->lock);
    if (!first) grammar_words_free(made);
    return words;
}

static serve_format *make(serve_server *s, const grammar_piece *pieces, size_t n,
                          const char *between, size_t most, const char *field, serve_error *e)
{
    grammar_error why;
    grammar *const g = grammar_new(words_of(s), pieces, n, between, most, &why);
    if (!g) {
        serve_refuse(e, field, "%s: at %s: %s", field, why.path, why.message);
        return NULL;
    }
    serve_format *const f = cli_array(NULL, 1, sizeof *f);
    *f = (serve_format){.g = g};
    atomic_init(&f->refs, 1);
    return f;
}

serve_format *serve_format_get(serve_server *s, const grammar_piece *pieces, size_t n,
                               const char *between, size_t most, const char *field, serve_error *e)
{
    char *const key = key_of(pieces, n, between, most);
    pthread_mutex_lock(&s->lock);
    serve_format *f = find(s, key);
    pthread_mutex_unlock(&s->lock);
    if (!f) {
        f = make(s, pieces, n, between, most, field, e);
        if (f) {
            f->key = key;
            pthread_mutex_lock(&s->lock);
            serve_format *const gone = keep(s, f);
            pthread_mutex_unlock(&s->lock);
            serve_format_unref(gone);
            return f;
        }
    }
    free(key);
    return f;
}

void serve_formats_close(serve_server *s)
{
    for (size_t i = 0; i < SERVE_KEPT_FORMATS; i++) serve_format_unref(s->formats[i]);
    grammar_words_free(s->words);
}

/* With json_object, that of llama.cpp's clients ("schema"), or of huggingface_hub's, which make one
 * of json_schema ("value"); NULL: neither. */
static const json_t *object_schema(const json_t *format)
{
    const json_t *const schema = serve_field(format, "schema");
    return schema ? schema : serve_field(format, "value");
}

/* The schema that response_format asks for, with `any` for any object; NULL: none. False: *e. */
static bool wanted_schema(const json_t *o, const json_t *any, const json_t **schema, serve_error *e)
{
    static const char field[] = "response_format";
    const json_t *const format = serve_field(o, field);
    const char *const type = json_string_value(json_object_get(format, "type"));
    *schema = NULL;
    if (!format || (type && strcmp(type, "text") == 0)) return true;
    const bool by_schema = type && strcmp(type, "json_schema") == 0;
    const json_t *const outer = serve_field(format, "json_schema");
    if (!by_schema && !(type && strcmp(type, "json_object") == 0))
        return serve_refuse(e, field,
                            "response_format must have the type text, json_object or json_schema");
    if (by_schema && !json_is_object(outer))
        return serve_refuse(e, field,
                            "response_format: json_schema must be an object with a schema");
    *schema = by_schema ? serve_field(outer, "schema") : object_schema(format);
    if (!*schema) *schema = any;
    return true;
}

bool serve_read_format(serve_server *s, const json_t *o, serve_request *r, serve_error *e)
{
    json_t *const any = json_pack("{s:s}", "type", "object");
    const json_t *schema = NULL;
    bool ok = (!r->chat || serve_read_tools(o, &r->tools, e)) && wanted_schema(o, any, &schema, e);
    if (ok && r->tools.needed) schema = NULL;
    const grammar_piece piece = {"", schema, ""};
    if (ok && schema) {
        r->format = serve_format_get(s, &piece, 1, "", 1, "response_format", e);
        ok = r->format;
    }
    if (ok && (r->tools.needed || (r->tools.list && schema))) {
        serve_format_unref(r->format);
        ok = serve_tools_format(s, r, schema, e);
    }
    json_decref(any);
    return ok;
}
