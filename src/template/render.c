/* SPDX-License-Identifier: Apache-2.0
 * Statements of a template, and a whole run. */
#include "base/mem.h"
#include "template/parts.h"

#include <string.h>

/* ------------------------------------------------------------------ scopes */

ftk_tmpl_scope *ftk_tmpl_scope_new(ftk_tmpl_run *r, ftk_tmpl_scope *up)
{
    ftk_tmpl_scope *s = ftk_tmpl_alloc(&r->job, 1, sizeof *s);
    *s = (ftk_tmpl_scope){.up = up};
    return s;
}

void ftk_tmpl_define(ftk_tmpl_run *r, ftk_tmpl_scope *s, const ftk_tmpl_str *name, ftk_tmpl_value v)
{
    if (!name) return;
    for (size_t i = 0; i < s->n; i++) {
        if (s->v[i].name != name) continue;
        s->v[i].v = v;
        return;
    }
    if (s->n == s->cap) {
        s->cap = 2 * s->cap + 4;
        ftk_tmpl_var *grown = ftk_tmpl_alloc(&r->job, s->cap, sizeof *grown);
        if (s->n > 0) memcpy(grown, s->v, s->n * sizeof *grown);
        s->v = grown;
    }
    s->v[s->n++] = (ftk_tmpl_var){name, v};
}

static void unpack(ftk_tmpl_run *r, const ftk_tmpl_nodes *targets, ftk_tmpl_value v)
{
    if (v.kind != TMPL_STRING && v.kind != TMPL_LIST && v.kind != TMPL_DICT &&
        v.kind != TMPL_UNDEFINED)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "cannot unpack non-iterable %s object",
                      ftk_tmpl_type(v));
    const ftk_tmpl_list *l = ftk_tmpl_walk(&r->job, v);
    if (l->n > targets->n)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "too many values to unpack (expected %zu)",
                      targets->n);
    if (l->n < targets->n)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID,
                      "not enough values to unpack (expected %zu, got %zu)", targets->n, l->n);
    for (size_t i = 0; i < l->n; i++) ftk_tmpl_assign(r, targets->v[i], l->v[i]);
}

void ftk_tmpl_assign(ftk_tmpl_run *r, const ftk_tmpl_node *target, ftk_tmpl_value v)
{
    if (target->op == OP_NAME) {
        ftk_tmpl_define(r, r->scope, target->name, v);
        return;
    }
    if (target->op != OP_NAMESPACE) {
        ftk_tmpl_enter(&r->job);
        unpack(r, &target->v, v);
        ftk_tmpl_leave(&r->job);
        return;
    }
    const ftk_tmpl_value ns = ftk_tmpl_eval(r, target->a);
    if (ns.kind != TMPL_NAMESPACE)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "cannot assign attribute on non-namespace object");
    if (target->name->p[0] == '_')
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID,
                      "Chat templates cannot store underscore-prefixed attributes on a namespace, "
                      "but got '%.*s'. Please rename the attribute.",
                      (int)(target->name->n < 60 ? target->name->n : 60), target->name->p);
    ftk_tmpl_dict_put(&r->job, ns.dict, target->k, v);
}

ftk_tmpl_value ftk_tmpl_capture(ftk_tmpl_run *r, const ftk_tmpl_nodes *body, ftk_tmpl_scope *up)
{
    ftk_tmpl_scope *const scope = r->scope;
    ftk_tmpl_text t = {0}, *const out = r->out;
    r->scope = ftk_tmpl_scope_new(r, up);
    r->out = &t;
    ftk_tmpl_exec(r, body);
    r->out = out;
    r->scope = scope;
    return ftk_tmpl_text_end(&r->job, &t);
}

/* ------------------------------------------------------------------ macros */

static ftk_tmpl_value take_named(const ftk_tmpl_args *args, const ftk_tmpl_str *name, bool *used)
{
    for (size_t i = 0; i < args->n_named; i++) {
        const ftk_tmpl_str *key = args->named[i].key.s;
        if (key->n != name->n || memcmp(key->p, name->p, key->n) != 0) continue;
        used[i] = true;
        return args->named[i].value;
    }
    return TMPL_ABSENT_VALUE;
}

static ftk_tmpl_value missing(ftk_tmpl_run *r, const ftk_tmpl_str *name)
{
    ftk_tmpl_text t = {0};
    ftk_tmpl_add_word(&r->job, &t, "parameter '");
    ftk_tmpl_add_str(&r->job, &t, name);
    ftk_tmpl_add_bytes(&r->job, &t, "' was not provided", 19, false);
    return ftk_tmpl_undefined_for(&r->job, t.p);
}

static const char *macro_name(ftk_tmpl_run *r, const ftk_tmpl_macro *m)
{
    ftk_tmpl_text t = {0};
    if (!m->node->name) return "None";
    ftk_tmpl_repr(&r->job, &t, (ftk_tmpl_value){.kind = TMPL_STRING, .s = m->node->name});
    ftk_tmpl_add_bytes(&r->job, &t, "", 1, false);
    return t.p;
}

static void define_parameters(ftk_tmpl_run *r, const ftk_tmpl_node *node, const ftk_tmpl_args *args,
                              bool *used)
{
    for (size_t i = 0; i < node->args->n; i++) {
        const ftk_tmpl_str *name = node->args->names[i];
        ftk_tmpl_value v = i < args->n ? args->v[i] : take_named(args, name, used);
        if (v.kind == TMPL_ABSENT)
            v = node->args->v[i] ? ftk_tmpl_eval(r, node->args->v[i]) : missing(r, name);
        ftk_tmpl_define(r, r->scope, name, v);
    }
}

/* What is left of the arguments, for varargs and kwargs, or to be refused. */
static void define_rest(ftk_tmpl_run *r, const ftk_tmpl_macro *m, const ftk_tmpl_args *args,
                        const bool *used)
{
    const size_t n = m->node->args->n;
    if (args->n > n && !m->node->uses_varargs)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "macro %s takes not more than %zu argument(s)",
                      macro_name(r, m), n);
    ftk_tmpl_list *rest = ftk_tmpl_list_new(&r->job, TMPL_SEQ_TUPLE, 0);
    for (size_t i = n; i < args->n; i++) ftk_tmpl_list_push(&r->job, rest, args->v[i]);
    ftk_tmpl_dict *more = ftk_tmpl_dict_new(&r->job);
    for (size_t i = 0; i < args->n_named; i++) {
        if (used[i]) continue;
        const ftk_tmpl_str *key = args->named[i].key.s;
        if (!m->node->uses_kwargs)
            ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "macro %s takes no keyword argument '%.*s'",
                          macro_name(r, m), (int)(key->n < 60 ? key->n : 60), key->p);
        ftk_tmpl_dict_put(&r->job, more, args->named[i].key, args->named[i].value);
    }
    if (m->node->uses_kwargs) ftk_tmpl_define(r, r->scope, r->kwargs, ftk_tmpl_dict_of(more));
    if (m->node->uses_varargs) ftk_tmpl_define(r, r->scope, r->varargs, ftk_tmpl_list_of(rest));
}

ftk_tmpl_value ftk_tmpl_call_macro(ftk_tmpl_run *r, const ftk_tmpl_macro *m,
                                   const ftk_tmpl_args *args, ftk_tmpl_value caller)
{
    ftk_tmpl_enter(&r->job);
    ftk_tmpl_scope *const scope = r->scope;
    bool *used = ftk_tmpl_alloc(&r->job, args->n_named + 1, sizeof *used);
    memset(used, 0, args->n_named + 1);
    r->scope = ftk_tmpl_scope_new(r, m->scope);
    if (m->node->uses_caller && r->caller) {
        if (caller.kind == TMPL_ABSENT) caller = take_named(args, r->caller, used);
        if (caller.kind == TMPL_ABSENT)
            caller = ftk_tmpl_undefined_for(&r->job, "No caller defined");
        ftk_tmpl_define(r, r->scope, r->caller, caller);
    } else if (caller.kind != TMPL_ABSENT) {
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "macro %s takes no keyword argument 'caller'",
                      macro_name(r, m));
    }
    define_parameters(r, m->node, args, used);
    define_rest(r, m, args, used);
    const ftk_tmpl_value text = ftk_tmpl_capture(r, &m->node->body, r->scope);
    r->scope = scope;
    ftk_tmpl_leave(&r->job);
    return text;
}

static ftk_tmpl_value macro_of(ftk_tmpl_run *r, const ftk_tmpl_node *node)
{
    ftk_tmpl_macro *m = ftk_tmpl_alloc(&r->job, 1, sizeof *m);
    *m = (ftk_tmpl_macro){node, r->scope};
    return (ftk_tmpl_value){.kind = TMPL_MACRO, .macro = m};
}

/* {% call f(x) %}: the body is a macro that f may call. */
static void exec_caller(ftk_tmpl_run *r, const ftk_tmpl_node *node)
{
    const ftk_tmpl_value f = ftk_tmpl_eval(r, node->a->a);
    ftk_tmpl_args args = ftk_tmpl_eval_args(r, node->a->args);
    const ftk_tmpl_value caller = macro_of(r, node);
    if (f.kind == TMPL_MACRO) {
        ftk_tmpl_show(&r->job, r->out, ftk_tmpl_call_macro(r, f.macro, &args, caller));
        return;
    }
    struct ftk_tmpl_pair *named = ftk_tmpl_alloc(&r->job, args.n_named + 1, sizeof *named);
    for (size_t i = 0; i < args.n_named; i++) named[i] = args.named[i];
    named[args.n_named++] = (struct ftk_tmpl_pair){ftk_tmpl_word(&r->job, "caller"), caller};
    args.named = named;
    ftk_tmpl_show(&r->job, r->out, ftk_tmpl_call(r, f, &args));
}

/* ------------------------------------------------------------------ loops */

static const ftk_tmpl_list *filter_items(ftk_tmpl_run *r, const ftk_tmpl_node *node,
                                         const ftk_tmpl_list *items)
{
    if (!node->c) return items;
    ftk_tmpl_list *kept = ftk_tmpl_list_new(&r->job, TMPL_SEQ_LIST, 0);
    ftk_tmpl_scope *const scope = r->scope;
    r->scope = ftk_tmpl_scope_new(r, scope);
    for (size_t i = 0; i < items->n; i++) {
        ftk_tmpl_assign(r, node->a, items->v[i]);
        if (ftk_tmpl_true(ftk_tmpl_eval(r, node->c)))
            ftk_tmpl_list_push(&r->job, kept, items->v[i]);
    }
    r->scope = scope;
    return kept;
}

void ftk_tmpl_run_loop(ftk_tmpl_run *r, const ftk_tmpl_node *node, ftk_tmpl_scope *scope,
                       ftk_tmpl_value items, int depth)
{
    ftk_tmpl_enter(&r->job);
    ftk_tmpl_scope *const before = r->scope;
    r->scope = scope;
    ftk_tmpl_loop *loop = ftk_tmpl_alloc(&r->job, 1, sizeof *loop);
    *loop = (ftk_tmpl_loop){.node = node,
                            .scope = scope,
                            .items = filter_items(r, node, ftk_tmpl_walk(&r->job, items)),
                            .depth = depth,
                            .recursive = node->recursive};
    r->scope = ftk_tmpl_scope_new(r, scope);
    bool whole = false; /* jinja2 runs `else` unless one turn got to its end */
    for (size_t i = 0; i < loop->items->n; i++) {
        ftk_tmpl_spend(&r->job, 1);
        r->scope->n = 0; /* what is set in one turn is not there in the next */
        loop->at = i;
        ftk_tmpl_define(r, r->scope, r->loop, (ftk_tmpl_value){.kind = TMPL_LOOP, .loop = loop});
        ftk_tmpl_assign(r, node->a, loop->items->v[i]);
        const ftk_tmpl_flow flow = ftk_tmpl_exec(r, &node->body);
        if (flow == TMPL_BREAK) break;
        whole |= flow == TMPL_GO_ON;
    }
    if (!whole) {
        r->scope->n = 0;
        ftk_tmpl_exec(r, &node->other);
    }
    r->scope = before;
    ftk_tmpl_leave(&r->job);
}

/* ------------------------------------------------------------------ statements */

static ftk_tmpl_flow exec_if(ftk_tmpl_run *r, const ftk_tmpl_node *node)
{
    for (size_t i = 0; i < node->v.n; i += 2)
        if (ftk_tmpl_true(ftk_tmpl_eval(r, node->v.v[i])))
            return ftk_tmpl_exec(r, &node->v.v[i + 1]->body);
    return ftk_tmpl_exec(r, &node->other);
}

static ftk_tmpl_flow exec_with(ftk_tmpl_run *r, const ftk_tmpl_node *node)
{
    ftk_tmpl_scope *const before = r->scope, *inner = ftk_tmpl_scope_new(r, before);
    for (size_t i = 0; i < node->v.n; i += 2) {
        const ftk_tmpl_value v = ftk_tmpl_eval(r, node->v.v[i + 1]);
        r->scope = inner;
        ftk_tmpl_assign(r, node->v.v[i], v);
        r->scope = before;
    }
    r->scope = inner;
    const ftk_tmpl_flow flow = ftk_tmpl_exec(r, &node->body);
    r->scope = before;
    return flow;
}

static ftk_tmpl_flow exec_statement(ftk_tmpl_run *r, const ftk_tmpl_node *node)
{
    ftk_tmpl_value v;
    switch ((ftk_tmpl_op)node->op) {
    case OP_TEXT: ftk_tmpl_add_str(&r->job, r->out, node->k.s); break;
    case OP_PRINT:
        for (size_t i = 0; i < node->v.n; i++)
            ftk_tmpl_show(&r->job, r->out, ftk_tmpl_eval(r, node->v.v[i]));
        break;
    case OP_IF: return exec_if(r, node);
    case OP_FOR: ftk_tmpl_run_loop(r, node, r->scope, ftk_tmpl_eval(r, node->b), 0); break;
    case OP_SET: ftk_tmpl_assign(r, node->a, ftk_tmpl_eval(r, node->b)); break;
    case OP_CAPTURE:
        v = ftk_tmpl_capture(r, &node->body, r->scope);
        if (node->b) v = ftk_tmpl_eval_filters(r, node->b, v);
        ftk_tmpl_assign(r, node->a, v);
        break;
    case OP_MACRO: ftk_tmpl_define(r, r->scope, node->name, macro_of(r, node)); break;
    case OP_CALLER: exec_caller(r, node); break;
    case OP_FILTERED:
        v = ftk_tmpl_capture(r, &node->body, r->scope);
        ftk_tmpl_show(&r->job, r->out, ftk_tmpl_eval_filters(r, node->b, v));
        break;
    case OP_WITH: return exec_with(r, node);
    case OP_SCOPE:
        ftk_tmpl_show(&r->job, r->out, ftk_tmpl_capture(r, &node->body, r->scope));
        break;
    case OP_BREAK: return TMPL_BREAK;
    default: return TMPL_CONTINUE;
    }
    return TMPL_GO_ON;
}

ftk_tmpl_flow ftk_tmpl_exec(ftk_tmpl_run *r, const ftk_tmpl_nodes *body)
{
    ftk_tmpl_flow flow = TMPL_GO_ON;
    ftk_tmpl_enter(&r->job);
    for (size_t i = 0; i < body->n && flow == TMPL_GO_ON; i++) {
        r->job.line = body->v[i]->line;
        ftk_tmpl_spend(&r->job, 1);
        flow = exec_statement(r, body->v[i]);
    }
    ftk_tmpl_leave(&r->job);
    return flow;
}

/* ------------------------------------------------------------------ what a run is given */

static const ftk_tmpl_str *name_of(const ftk_template *t, const char *name, size_t n)
{
    for (size_t i = 0; i < t->n_names; i++)
        if (t->names[i]->n == n && memcmp(t->names[i]->p, name, n) == 0) return t->names[i];
    return NULL;
}

static void define(ftk_tmpl_run *r, const char *name, ftk_tmpl_value v)
{
    ftk_tmpl_define(r, r->scope, name_of(r->t, name, strlen(name)), v);
}

static bool is_usual_role(const char *role)
{
    static const char *const usual[] = {"system",   "user",      "assistant", "tool",
                                        "function", "developer", "ipython",   "tool_response",
                                        "model",    "tool_call", NULL};
    for (size_t i = 0; usual[i]; i++)
        if (strcmp(role, usual[i]) == 0) return true;
    return false;
}

static ftk_tmpl_value input_text(ftk_tmpl_run *r, const char *text)
{
    return ftk_tmpl_string(&r->job, (ftk_tmpl_str){.p = text, .n = strlen(text), .input = true});
}

/* What the caller says of a message beside role and content, which it does not replace; but a
 * content that is null says that there is none. */
static void add_members(ftk_tmpl_run *r, ftk_tmpl_dict *d, ftk_tmpl_value content,
                        ftk_tmpl_value members)
{
    if (members.kind == TMPL_NONE) return;
    if (members.kind != TMPL_DICT)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "the members of a message are no JSON object");
    for (size_t i = 0; i < members.dict->n; i++)
        if (!ftk_tmpl_dict_find(&r->job, d, members.dict->v[i].key))
            ftk_tmpl_dict_put(&r->job, d, members.dict->v[i].key, members.dict->v[i].value);
    const ftk_tmpl_value *const text = ftk_tmpl_dict_find(&r->job, members.dict, content);
    if (text && text->kind == TMPL_NONE) ftk_tmpl_dict_put(&r->job, d, content, *text);
}

static const ftk_tmpl_list *members_of(ftk_tmpl_run *r)
{
    static const char what[] = "the messages' members";
    if (!r->in->members) return NULL;
    const ftk_tmpl_value v = ftk_tmpl_from_json(&r->job, r->in->members, what);
    if (v.kind != TMPL_LIST || v.list->n != r->in->n_messages)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID,
                      "%s are no JSON list with as many as there are messages", what);
    return v.list;
}

static ftk_tmpl_value messages_of(ftk_tmpl_run *r)
{
    const ftk_template_input *in = r->in;
    const ftk_tmpl_list *const members = members_of(r);
    ftk_tmpl_list *l = ftk_tmpl_list_new(&r->job, TMPL_SEQ_LIST, in->n_messages);
    const ftk_tmpl_value role = ftk_tmpl_word(&r->job, "role");
    const ftk_tmpl_value content = ftk_tmpl_word(&r->job, "content");
    for (size_t i = 0; i < in->n_messages; i++) {
        const ftk_message *m = &in->messages[i];
        ftk_tmpl_dict *d = ftk_tmpl_dict_new(&r->job);
        ftk_tmpl_dict_put(&r->job, d, role,
                          is_usual_role(m->role) ? ftk_tmpl_word(&r->job, m->role)
                                                 : input_text(r, m->role));
        ftk_tmpl_dict_put(&r->job, d, content, input_text(r, m->content));
        if (members) add_members(r, d, content, members->v[i]);
        l->v[l->n++] = ftk_tmpl_dict_of(d);
    }
    return ftk_tmpl_list_of(l);
}

static void define_vars(ftk_tmpl_run *r, const char *json)
{
    const ftk_tmpl_value vars = ftk_tmpl_from_json(&r->job, json, "the template's variables");
    if (vars.kind != TMPL_DICT)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "the template's variables are no JSON object");
    for (size_t i = 0; i < vars.dict->n; i++) {
        const ftk_tmpl_str *key = vars.dict->v[i].key.s;
        ftk_tmpl_define(r, r->scope, name_of(r->t, key->p, key->n), vars.dict->v[i].value);
    }
}

static void run(ftk_tmpl_job *j, void *ctx)
{
    ftk_tmpl_run *r = ctx;
    const ftk_template_input *in = r->in;
    r->scope = ftk_tmpl_scope_new(r, NULL);
    r->loop = name_of(r->t, "loop", 4);
    r->caller = name_of(r->t, "caller", 6);
    r->varargs = name_of(r->t, "varargs", 7);
    r->kwargs = name_of(r->t, "kwargs", 6);
    for (size_t i = 0; i < in->n_words; i++)
        define(
            r, in->words[i].name,
            ftk_tmpl_string(j, (ftk_tmpl_str){.p = in->words[i].text.p, .n = in->words[i].text.n}));
    define(r, "messages", messages_of(r));
    define(r, "tools", in->tools ? ftk_tmpl_from_json(j, in->tools, "the tools") : TMPL_NONE_VALUE);
    define(r, "documents", TMPL_NONE_VALUE);
    define(r, "add_generation_prompt", TMPL_BOOL_VALUE(in->add_generation_prompt));
    if (in->vars) define_vars(r, in->vars);
    ftk_tmpl_exec(r, &r->t->body);
}

/* ------------------------------------------------------------------ a run */

static size_t input_size(const ftk_template_input *in)
{
    size_t n = (in->tools ? strlen(in->tools) : 0) + (in->vars ? strlen(in->vars) : 0) +
               (in->members ? strlen(in->members) : 0);
    for (size_t i = 0; i < in->n_messages; i++) n += strlen(in->messages[i].content) + 64;
    return n;
}

static ftk_err hand_out(ftk_rendered *out, const ftk_tmpl_text *t, const ftk_host *host)
{
    out->text = ftk_alloc_raw(host, t->n, 1);
    out->input = ftk_alloc_raw(host, t->n, 1);
    out->n = t->n;
    if (!out->text || !out->input) {
        ftk_rendered_free(out, host);
        return FTK_ERR_NOMEM;
    }
    if (t->n > 0) memcpy(out->text, t->p, t->n);
    if (t->n > 0 && t->marks) memcpy(out->input, t->marks, t->n);
    if (!t->marks) memset(out->input, t->input, t->n);
    return FTK_OK;
}

ftk_err ftk_template_render(const ftk_template *t, const ftk_template_input *in,
                            const ftk_host *host, ftk_rendered *out, ftk_template_error *error)
{
    /* Many times what the longest conversations take. */
    const size_t size = input_size(in) + t->size;
    ftk_tmpl_text text = {0};
    ftk_tmpl_run r = {.job = {.host = host,
                              .left = ((size_t)64 << 20) + 100 * size,
                              .steps = 20000000 + 100 * (uint64_t)size},
                      .t = t,
                      .in = in,
                      .out = &text};
    *out = (ftk_rendered){0};
    *error = (ftk_template_error){.message = "no memory for the text"};
    ftk_err err = ftk_tmpl_guard(&r.job, run, &r);
    if (err != FTK_OK) {
        error->line = r.job.line;
        memcpy(error->message, r.job.message, sizeof error->message);
    } else {
        err = hand_out(out, &text, host);
    }
    ftk_tmpl_job_free(&r.job);
    return err;
}

void ftk_rendered_free(ftk_rendered *r, const ftk_host *host)
{
    ftk_release(host, r->text);
    ftk_release(host, r->input);
    *r = (ftk_rendered){0};
}
