/* SPDX-License-Identifier: Apache-2.0
 * What the parts of the template room share: a job's memory and bounds, values, nodes. */
#ifndef FTK_TEMPLATE_PARTS_H
#define FTK_TEMPLATE_PARTS_H

#include "template/template.h"

#include <setjmp.h>

/* ------------------------------------------------------------------ a job */

/* One parse or one run. Its memory is freed all at once; whatever fails leaves it by longjmp() to
 * where it began, so functions here return only what is right. No call-back of the host is on the
 * stack then. */
typedef struct ftk_tmpl_job {
    const ftk_host *host;
    struct ftk_tmpl_block *blocks;
    char *at, *end;
    size_t left;    /* bytes that may still be taken from the host */
    uint64_t steps; /* that may still be made */
    int depth;
    int line; /* where the template is, for messages */
    ftk_err err;
    char message[FTK_TEMPLATE_MESSAGE];
    jmp_buf escape;
} ftk_tmpl_job;

enum {
    FTK_TMPL_DEPTH = 800,      /* calls of the evaluator or the parser within each other */
    FTK_TMPL_BLOCK = 16 << 10, /* bytes of memory taken at a time */
    FTK_TMPL_RANGE = 100000,   /* most elements of a range(), as in jinja2's sandbox */
    FTK_TMPL_PARAMETERS = 8    /* of a built-in function */
};

/* Runs body; its error, and the message, are in the job. */
ftk_err ftk_tmpl_guard(ftk_tmpl_job *j, void (*body)(ftk_tmpl_job *j, void *ctx), void *ctx);
void ftk_tmpl_job_free(ftk_tmpl_job *j);
_Noreturn void ftk_tmpl_fail(ftk_tmpl_job *j, ftk_err err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Memory that lives as long as the job, not zeroed, aligned for anything. */
void *ftk_tmpl_alloc(ftk_tmpl_job *j, size_t n, size_t size);
/* Counts work against the bound. */
void ftk_tmpl_spend(ftk_tmpl_job *j, size_t steps);
/* Around what may call itself. */
void ftk_tmpl_enter(ftk_tmpl_job *j);
static inline void ftk_tmpl_leave(ftk_tmpl_job *j)
{
    j->depth--;
}

/* ------------------------------------------------------------------ values */

/* Bytes, and where they are from. marks: [n], 1 for bytes of an input; NULL: `input` holds for
 * all. */
typedef struct ftk_tmpl_str {
    const char *p;
    const unsigned char *marks;
    size_t n;
    bool input;
    bool markup; /* marked safe: what is added to it is escaped for HTML */
} ftk_tmpl_str;

typedef enum ftk_tmpl_kind {
    TMPL_ABSENT, /* a parameter that was not given; never seen by a template */
    TMPL_UNDEFINED,
    TMPL_NONE,
    TMPL_BOOL,
    TMPL_INT,
    TMPL_FLOAT,
    TMPL_STRING,
    TMPL_LIST,
    TMPL_DICT,
    TMPL_NAMESPACE,
    TMPL_SLICE,
    TMPL_MACRO,
    TMPL_BUILTIN,
    TMPL_LOOP,
    TMPL_OBJECT, /* cycler, joiner */
} ftk_tmpl_kind;

typedef struct ftk_tmpl_value {
    uint8_t kind;
    bool input; /* of a number: it was read from an input's text */
    union {
        bool b;
        int64_t i;
        double f;
        const ftk_tmpl_str *s;
        struct ftk_tmpl_list *list;
        struct ftk_tmpl_dict *dict;
        const struct ftk_tmpl_undefined *undefined;
        const struct ftk_tmpl_macro *macro;
        const struct ftk_tmpl_builtin *builtin;
        struct ftk_tmpl_loop *loop;
        struct ftk_tmpl_object *object;
    };
} ftk_tmpl_value;

/* What of Python's sequences a list stands for. */
typedef enum ftk_tmpl_sequence {
    TMPL_SEQ_LIST,
    TMPL_SEQ_TUPLE,
    TMPL_SEQ_RANGE,
    TMPL_SEQ_KEYS,
    TMPL_SEQ_VALUES,
    TMPL_SEQ_ITEMS,
    TMPL_SEQ_GENERATOR, /* can be walked once; `used` elements have been */
} ftk_tmpl_sequence;

typedef struct ftk_tmpl_list {
    ftk_tmpl_sequence sequence;
    ftk_tmpl_value *v;
    size_t n, cap, used;
    int64_t range[3];
} ftk_tmpl_list;

/* In the order of insertion. */
typedef struct ftk_tmpl_dict {
    struct ftk_tmpl_pair {
        ftk_tmpl_value key, value;
    } * v;
    size_t n, cap;
} ftk_tmpl_dict;

/* Why there is no value: a name or an element that is not there, or a reason. */
typedef struct ftk_tmpl_undefined {
    const char *reason; /* or NULL */
    bool unsafe;        /* the sandbox refuses */
    bool of_object;     /* an element of `object`, else a name */
    ftk_tmpl_value object, name;
} ftk_tmpl_undefined;

typedef struct ftk_tmpl_run ftk_tmpl_run;

/* Arguments of a call, as they were given. */
typedef struct ftk_tmpl_args {
    const ftk_tmpl_value *v;
    size_t n;
    const struct ftk_tmpl_pair *named; /* keys are strings */
    size_t n_named;
} ftk_tmpl_args;

/* A filter, test, method or function of our own. With params it gets p[], one value for each of
 * them, TMPL_ABSENT where it was not given; where params is "*", p is NULL and args as given. */
typedef struct ftk_tmpl_function {
    const char *name;
    const char *params; /* "old new count"; those with a '!' in front must be given */
    ftk_tmpl_value (*call)(ftk_tmpl_run *r, ftk_tmpl_value self, const ftk_tmpl_value *p,
                           const ftk_tmpl_args *args);
} ftk_tmpl_function;

typedef struct ftk_tmpl_builtin {
    const ftk_tmpl_function *f;
    ftk_tmpl_value self;
} ftk_tmpl_builtin;

typedef struct ftk_tmpl_object {
    const char *type;
    ftk_tmpl_list *items;
    size_t at;
} ftk_tmpl_object;

#define TMPL_INT_VALUE(x)  ((ftk_tmpl_value){.kind = TMPL_INT, .i = (x)})
#define TMPL_BOOL_VALUE(x) ((ftk_tmpl_value){.kind = TMPL_BOOL, .b = (x)})
#define TMPL_NONE_VALUE    ((ftk_tmpl_value){.kind = TMPL_NONE})
#define TMPL_ABSENT_VALUE  ((ftk_tmpl_value){.kind = TMPL_ABSENT})

ftk_tmpl_value ftk_tmpl_string(ftk_tmpl_job *j, ftk_tmpl_str s);
ftk_tmpl_value ftk_tmpl_word(ftk_tmpl_job *j, const char *word); /* the text is not copied */
ftk_tmpl_value ftk_tmpl_list_of(ftk_tmpl_list *l);
ftk_tmpl_value ftk_tmpl_dict_of(ftk_tmpl_dict *d);
ftk_tmpl_list *ftk_tmpl_list_new(ftk_tmpl_job *j, ftk_tmpl_sequence sequence, size_t cap);
void ftk_tmpl_list_push(ftk_tmpl_job *j, ftk_tmpl_list *l, ftk_tmpl_value v);
ftk_tmpl_value ftk_tmpl_tuple2(ftk_tmpl_job *j, ftk_tmpl_value a, ftk_tmpl_value b);
ftk_tmpl_dict *ftk_tmpl_dict_new(ftk_tmpl_job *j);
/* The value under a key that equals it, or NULL. */
ftk_tmpl_value *ftk_tmpl_dict_find(ftk_tmpl_job *j, const ftk_tmpl_dict *d, ftk_tmpl_value key);
void ftk_tmpl_dict_put(ftk_tmpl_job *j, ftk_tmpl_dict *d, ftk_tmpl_value key, ftk_tmpl_value v);
ftk_tmpl_value ftk_tmpl_undefined_name(ftk_tmpl_job *j, ftk_tmpl_value name);
ftk_tmpl_value ftk_tmpl_undefined_of(ftk_tmpl_job *j, ftk_tmpl_value object, ftk_tmpl_value name);
ftk_tmpl_value ftk_tmpl_undefined_for(ftk_tmpl_job *j, const char *reason);

static inline bool ftk_tmpl_is_number(ftk_tmpl_value v)
{
    return v.kind == TMPL_BOOL || v.kind == TMPL_INT || v.kind == TMPL_FLOAT;
}
/* A whole number; bools are some. */
static inline bool ftk_tmpl_is_whole(ftk_tmpl_value v)
{
    return v.kind == TMPL_BOOL || v.kind == TMPL_INT;
}
static inline int64_t ftk_tmpl_whole(ftk_tmpl_value v)
{
    return v.kind == TMPL_BOOL ? v.b : v.i;
}
static inline double ftk_tmpl_real(ftk_tmpl_value v)
{
    return v.kind == TMPL_FLOAT ? v.f : (double)ftk_tmpl_whole(v);
}
bool ftk_tmpl_true(ftk_tmpl_value v);
/* Python's ==; and order, -1 to 1, or 2 where nothing holds (NaN): fails, with `op` in the message,
 * if a and b have none. */
bool ftk_tmpl_equal(ftk_tmpl_job *j, ftk_tmpl_value a, ftk_tmpl_value b);
int ftk_tmpl_order(ftk_tmpl_job *j, ftk_tmpl_value a, ftk_tmpl_value b, const char *op);
bool ftk_tmpl_contains(ftk_tmpl_job *j, ftk_tmpl_value in, ftk_tmpl_value v);
/* "str", "dict" ...; and as jinja2 names the thing in messages: "str object", "None". */
const char *ftk_tmpl_type(ftk_tmpl_value v);
const char *ftk_tmpl_object_type(ftk_tmpl_job *j, ftk_tmpl_value v);
/* Fails with what an undefined value has to say. */
_Noreturn void ftk_tmpl_fail_undefined(ftk_tmpl_job *j, ftk_tmpl_value v);
bool ftk_tmpl_callable(ftk_tmpl_value v);
/* The elements of anything that can be walked; a generator is used up. Fails with other values. */
const ftk_tmpl_list *ftk_tmpl_walk(ftk_tmpl_job *j, ftk_tmpl_value v);
bool ftk_tmpl_length(ftk_tmpl_job *j, ftk_tmpl_value v, int64_t *n); /* false: it has none */

/* ------------------------------------------------------------------ text */

/* A string that grows. All zero is empty. */
typedef struct ftk_tmpl_text {
    char *p;
    unsigned char *marks; /* NULL while all bytes are of one kind */
    size_t n, cap;
    bool input;
} ftk_tmpl_text;

void ftk_tmpl_add(ftk_tmpl_job *j, ftk_tmpl_text *t, const ftk_tmpl_str *s, size_t from, size_t to);
void ftk_tmpl_add_str(ftk_tmpl_job *j, ftk_tmpl_text *t, const ftk_tmpl_str *s);
void ftk_tmpl_add_bytes(ftk_tmpl_job *j, ftk_tmpl_text *t, const char *p, size_t n, bool input);
void ftk_tmpl_add_word(ftk_tmpl_job *j, ftk_tmpl_text *t, const char *word);
void ftk_tmpl_add_code(ftk_tmpl_job *j, ftk_tmpl_text *t, uint32_t code, bool input);
ftk_tmpl_value ftk_tmpl_text_end(ftk_tmpl_job *j, const ftk_tmpl_text *t);
bool ftk_tmpl_mark(const ftk_tmpl_str *s, size_t at);

/* str() and repr() of a value, at the end of a text. */
void ftk_tmpl_show(ftk_tmpl_job *j, ftk_tmpl_text *t, ftk_tmpl_value v);
void ftk_tmpl_repr(ftk_tmpl_job *j, ftk_tmpl_text *t, ftk_tmpl_value v);
/* A value as a string: itself if it is one. */
const ftk_tmpl_str *ftk_tmpl_str_of(ftk_tmpl_job *j, ftk_tmpl_value v);
ftk_tmpl_value ftk_tmpl_slice_str(ftk_tmpl_job *j, const ftk_tmpl_str *s, size_t from, size_t to);
/* Characters of a text; a byte that is in none is one. */
size_t ftk_tmpl_char(const ftk_tmpl_str *s, size_t at); /* bytes of the one at `at` */
uint32_t ftk_tmpl_code(const ftk_tmpl_str *s, size_t at);
size_t ftk_tmpl_chars(ftk_tmpl_job *j, const ftk_tmpl_str *s);
size_t ftk_tmpl_offset(const ftk_tmpl_str *s, size_t chars); /* of the character of that number */
bool ftk_tmpl_same(const ftk_tmpl_str *s, const char *word);
/* Where needle stands in s[from..to), or SIZE_MAX; the last one if last. */
size_t ftk_tmpl_find(ftk_tmpl_job *j, const ftk_tmpl_str *s, const ftk_tmpl_str *needle,
                     size_t from, size_t to, bool last);
bool ftk_tmpl_is_space(uint32_t code);
enum { TMPL_STRIP_LEFT = 1, TMPL_STRIP_RIGHT = 2 };
/* chars NULL: white space. */
ftk_tmpl_value ftk_tmpl_strip(ftk_tmpl_job *j, const ftk_tmpl_str *s, const ftk_tmpl_str *chars,
                              int sides);
ftk_tmpl_value ftk_tmpl_replace(ftk_tmpl_job *j, const ftk_tmpl_str *s, const ftk_tmpl_str *old,
                                const ftk_tmpl_str *with, int64_t most);
ftk_tmpl_value ftk_tmpl_lines(ftk_tmpl_job *j, const ftk_tmpl_str *s, bool keep_ends);
ftk_tmpl_value ftk_tmpl_join(ftk_tmpl_job *j, const ftk_tmpl_list *l, const ftk_tmpl_str *with);
const ftk_tmpl_str *ftk_tmpl_escape(ftk_tmpl_job *j, ftk_tmpl_value v); /* for HTML; markup stays */
ftk_tmpl_value ftk_tmpl_concat(ftk_tmpl_job *j, const ftk_tmpl_str *a, const ftk_tmpl_str *b);

typedef enum ftk_tmpl_case {
    TMPL_UPPER,
    TMPL_LOWER,
    TMPL_CAPITALIZE,
    TMPL_TITLE,      /* str.title(): after anything that has no case */
    TMPL_WORD_TITLE, /* the filter: after blanks, brackets and '-' */
} ftk_tmpl_case;
ftk_tmpl_value ftk_tmpl_recase(ftk_tmpl_job *j, const ftk_tmpl_str *s, ftk_tmpl_case how);
bool ftk_tmpl_has_case(uint32_t code, bool *upper);
bool ftk_tmpl_is_alpha(uint32_t code);

/* ------------------------------------------------------------------ numbers, formats, JSON,
 * dates */

enum { FTK_TMPL_DIGITS = 400 }; /* most bytes of a number as text */
/* repr() of a float; no locale has a say. Returns the length. */
size_t ftk_tmpl_show_real(char buf[FTK_TMPL_DIGITS], double f);
/* printf's 'e', 'f' or 'g' with a point, whatever the locale; decimals at most 40. */
size_t ftk_tmpl_format_real(char buf[FTK_TMPL_DIGITS], double f, char type, int decimals, bool alt);
/* Reads all n bytes as a decimal number; false if they are none. */
bool ftk_tmpl_read_real(const char *p, size_t n, double *f);
/* base 2 to 36, or 0: by a prefix. Underscores between digits are allowed. */
bool ftk_tmpl_read_whole(const char *p, size_t n, int base, int64_t *i);

ftk_tmpl_value ftk_tmpl_format(ftk_tmpl_run *r, const ftk_tmpl_str *f, const ftk_tmpl_args *args);
ftk_tmpl_value ftk_tmpl_percent(ftk_tmpl_job *j, const ftk_tmpl_str *f, ftk_tmpl_value args);
ftk_tmpl_value ftk_tmpl_date(ftk_tmpl_job *j, const ftk_tmpl_str *format, int64_t seconds);

typedef struct ftk_tmpl_json {
    bool ascii, sort;
    const ftk_tmpl_str *indent; /* of one level, or NULL: one line */
    const ftk_tmpl_str *comma, *colon;
} ftk_tmpl_json;
void ftk_tmpl_to_json(ftk_tmpl_job *j, ftk_tmpl_text *t, ftk_tmpl_value v,
                      const ftk_tmpl_json *how);
/* Reads JSON, all of whose texts and numbers are input; `what` is for messages. */
ftk_tmpl_value ftk_tmpl_from_json(ftk_tmpl_job *j, const char *text, const char *what);

/* ------------------------------------------------------------------ the tree */

typedef enum ftk_tmpl_op {
    OP_CONST,
    OP_NAME,
    OP_LIST,
    OP_TUPLE,
    OP_DICT, /* v: key, value, key, value ... */
    OP_ATTRIBUTE,
    OP_ITEM,
    OP_SLICE, /* a : b : c */
    OP_CALL,
    OP_FILTER,
    OP_TEST,
    OP_NOT,
    OP_NEGATE,
    OP_POSITIVE,
    OP_ADD,
    OP_SUBTRACT,
    OP_MULTIPLY,
    OP_DIVIDE,
    OP_FLOOR,
    OP_MODULO,
    OP_POWER,
    OP_CONCAT,
    OP_AND,
    OP_OR,
    OP_COMPARE, /* a, then v: OP_EQUAL ... each with its operand in a */
    OP_EQUAL,
    OP_UNEQUAL,
    OP_LESS,
    OP_LESS_EQUAL,
    OP_GREATER,
    OP_GREATER_EQUAL,
    OP_IN,
    OP_NOT_IN,
    OP_CONDITION, /* b if a else c */
    OP_NAMESPACE, /* a target: name.k */
    /* statements */
    OP_TEXT,
    OP_PRINT,
    OP_IF,       /* v: condition, body, condition, body ...; c: else */
    OP_FOR,      /* a: target, b: iterable, c: filter, body, other: else */
    OP_SET,      /* a: target, b: value */
    OP_CAPTURE,  /* a: target, b: filters of TMPL hole, body */
    OP_MACRO,    /* name, params, body */
    OP_CALLER,   /* a: call, params, body */
    OP_FILTERED, /* b: filters, body */
    OP_WITH,     /* v: target, value, target, value ...; body */
    OP_SCOPE,    /* body */
    OP_BREAK,
    OP_CONTINUE,
} ftk_tmpl_op;

typedef struct ftk_tmpl_node ftk_tmpl_node;

typedef struct ftk_tmpl_nodes {
    ftk_tmpl_node **v;
    size_t n, cap;
} ftk_tmpl_nodes;

/* Arguments as they are written, or parameters with their defaults (a value NULL: none). */
typedef struct ftk_tmpl_named {
    const ftk_tmpl_str **names; /* NULL: by position */
    ftk_tmpl_node **v;
    size_t n, cap;
    ftk_tmpl_node *rest, *rest_named; /* *a, **b */
} ftk_tmpl_named;

struct ftk_tmpl_node {
    uint8_t op;
    bool recursive, uses_caller, uses_kwargs, uses_varargs;
    int line;
    const ftk_tmpl_str *name; /* one pointer for each name of a template */
    ftk_tmpl_node *a, *b, *c;
    ftk_tmpl_nodes v, body, other;
    ftk_tmpl_named *args;
    ftk_tmpl_value k;
};

struct ftk_template {
    ftk_tmpl_job job;
    ftk_tmpl_nodes body;
    const ftk_tmpl_str **names;
    size_t n_names;
    size_t size; /* of its text */
};

/* ---- tokens */

typedef enum ftk_tmpl_token_kind {
    TOKEN_END,
    TOKEN_DATA,
    TOKEN_PRINT_BEGIN,
    TOKEN_PRINT_END,
    TOKEN_BLOCK_BEGIN,
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_STRING,
    TOKEN_INT,
    TOKEN_REAL,
    TOKEN_SIGN, /* an operator or a bracket, in text */
} ftk_tmpl_token_kind;

typedef struct ftk_tmpl_token {
    ftk_tmpl_token_kind kind;
    int line;
    ftk_str text;
    ftk_tmpl_value value; /* STRING, INT, REAL */
} ftk_tmpl_token;

typedef struct ftk_tmpl_tokens {
    ftk_tmpl_token *v;
    size_t n, cap;
} ftk_tmpl_tokens;

/* Cuts a template into tokens, the last one TOKEN_END. */
ftk_tmpl_tokens ftk_tmpl_lex(ftk_tmpl_job *j, const char *text, size_t n);

/* ------------------------------------------------------------------ a run */

typedef struct ftk_tmpl_var {
    const ftk_tmpl_str *name;
    ftk_tmpl_value v;
} ftk_tmpl_var;

typedef struct ftk_tmpl_scope {
    struct ftk_tmpl_scope *up;
    ftk_tmpl_var *v;
    size_t n, cap;
} ftk_tmpl_scope;

typedef struct ftk_tmpl_macro {
    const ftk_tmpl_node *node;
    ftk_tmpl_scope *scope; /* in which it was defined */
} ftk_tmpl_macro;

typedef struct ftk_tmpl_loop {
    const ftk_tmpl_node *node;
    ftk_tmpl_scope *scope; /* around it */
    const ftk_tmpl_list *items;
    size_t at;
    int depth;
    bool recursive;
    ftk_tmpl_value changed;
} ftk_tmpl_loop;

struct ftk_tmpl_run {
    ftk_tmpl_job job;
    const ftk_template *t;
    const ftk_template_input *in;
    ftk_tmpl_scope *scope;
    ftk_tmpl_text *out;
    /* names with a meaning; NULL where the template has not got them */
    const ftk_tmpl_str *loop, *caller, *varargs, *kwargs;
};

ftk_tmpl_value ftk_tmpl_eval(ftk_tmpl_run *r, const ftk_tmpl_node *node);
/* What a statement says about those behind it. */
typedef enum ftk_tmpl_flow { TMPL_GO_ON, TMPL_BREAK, TMPL_CONTINUE } ftk_tmpl_flow;
ftk_tmpl_flow ftk_tmpl_exec(ftk_tmpl_run *r, const ftk_tmpl_nodes *body);
/* The same in a scope of its own, into a string. */
ftk_tmpl_value ftk_tmpl_capture(ftk_tmpl_run *r, const ftk_tmpl_nodes *body, ftk_tmpl_scope *up);
void ftk_tmpl_define(ftk_tmpl_run *r, ftk_tmpl_scope *s, const ftk_tmpl_str *name,
                     ftk_tmpl_value v);
ftk_tmpl_scope *ftk_tmpl_scope_new(ftk_tmpl_run *r, ftk_tmpl_scope *up);
void ftk_tmpl_assign(ftk_tmpl_run *r, const ftk_tmpl_node *target, ftk_tmpl_value v);
ftk_tmpl_value ftk_tmpl_call(ftk_tmpl_run *r, ftk_tmpl_value f, const ftk_tmpl_args *args);
ftk_tmpl_value ftk_tmpl_call_macro(ftk_tmpl_run *r, const ftk_tmpl_macro *m,
                                   const ftk_tmpl_args *args, ftk_tmpl_value caller);
/* One loop over items, written to r->out. */
void ftk_tmpl_run_loop(ftk_tmpl_run *r, const ftk_tmpl_node *node, ftk_tmpl_scope *scope,
                       ftk_tmpl_value items, int depth);
ftk_tmpl_args ftk_tmpl_eval_args(ftk_tmpl_run *r, const ftk_tmpl_named *named);
/* A chain of filters on the value that stands at its front, where the node has none. */
ftk_tmpl_value ftk_tmpl_eval_filters(ftk_tmpl_run *r, const ftk_tmpl_node *node, ftk_tmpl_value v);

ftk_tmpl_value ftk_tmpl_attribute(ftk_tmpl_run *r, ftk_tmpl_value v, ftk_tmpl_value name);
ftk_tmpl_value ftk_tmpl_item(ftk_tmpl_run *r, ftk_tmpl_value v, ftk_tmpl_value key);
ftk_tmpl_value ftk_tmpl_binary(ftk_tmpl_job *j, ftk_tmpl_op op, ftk_tmpl_value a, ftk_tmpl_value b);

/* NULL if there is none of that name. */
const ftk_tmpl_function *ftk_tmpl_filter(const ftk_tmpl_str *name);
const ftk_tmpl_function *ftk_tmpl_test(const ftk_tmpl_str *name);
const ftk_tmpl_function *ftk_tmpl_global(const ftk_tmpl_str *name);
/* A method of v; *unsafe: there is one, but it would change v. */
const ftk_tmpl_function *ftk_tmpl_method(ftk_tmpl_value v, const ftk_tmpl_str *name, bool *unsafe);
const ftk_tmpl_function *ftk_tmpl_lookup(const ftk_tmpl_function *table, size_t n,
                                         const ftk_tmpl_str *name);
ftk_tmpl_value ftk_tmpl_apply(ftk_tmpl_run *r, const ftk_tmpl_function *f, ftk_tmpl_value self,
                              const ftk_tmpl_args *args);
ftk_tmpl_value ftk_tmpl_apply_filter(ftk_tmpl_run *r, const ftk_tmpl_str *name, ftk_tmpl_value v,
                                     const ftk_tmpl_args *args);
bool ftk_tmpl_apply_test(ftk_tmpl_run *r, const ftk_tmpl_str *name, ftk_tmpl_value v,
                         const ftk_tmpl_args *args);

/* ---- parameters of built-in functions */

int64_t ftk_tmpl_int_of(ftk_tmpl_job *j, ftk_tmpl_value v,
                        int64_t absent);                                 /* fails if it is none */
const ftk_tmpl_str *ftk_tmpl_text_of(ftk_tmpl_job *j, ftk_tmpl_value v); /* fails if it is none */

#endif
