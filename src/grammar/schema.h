/* SPDX-License-Identifier: Apache-2.0
 * A JSON schema on its way to rules. */
#ifndef FTK_GRAMMAR_SCHEMA_H
#define FTK_GRAMMAR_SCHEMA_H

#include "grammar/rules.h"

enum {
    SCHEMA_MOST_DEPTH = 64,    /* of schemas within each other */
    SCHEMA_MOST_NAMES = 1000,  /* properties of an object */
    SCHEMA_MOST_VALUES = 5000, /* of an enum */
    SCHEMA_MOST_WORK = 20000,  /* schemas put together or compared */
    SCHEMA_FAILED = -1,
};

typedef struct schema_job schema_job;
typedef int schema_compiler(schema_job *j, const json_t *schema);

typedef struct schema_known {
    const json_t *schema;
    schema_compiler *by;
    int rule;
} schema_known;

struct schema_job {
    grammar *g;
    common_rules common;
    const json_t *root;  /* that references look into */
    schema_known *known; /* by where they stand; those that may come up within themselves */
    size_t n_known, cap_known;
    json_t *owned; /* a list of what was put together on the way */
    int depth;
    size_t work, pattern_work, n_cells; /* of rule.lengths */
    char path[200];
    grammar_error *e;
};

/* The path while a part of a schema is looked at. */
typedef struct schema_place {
    size_t end;
} schema_place;

schema_place schema_enter(schema_job *j, const char *key);
schema_place schema_enter_at(schema_job *j, const char *key, size_t index);
void schema_leave(schema_job *j, schema_place p);
/* Both return SCHEMA_FAILED. */
/* One more piece of work; false: said that it is too much. */
bool schema_works(schema_job *j);
int schema_wrong(schema_job *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- schema.c */

int schema_compile(schema_job *j, const json_t *schema);
/* A whole number that is not negative, or `otherwise`; false: said. */
bool schema_size(schema_job *j, const json_t *schema, const char *key, uint32_t otherwise,
                 uint32_t *v);

/* ---- schema_values.c: by type. Each returns a rule. */

int schema_string(schema_job *j, const json_t *schema);
int schema_number(schema_job *j, const json_t *schema, bool whole);
/* enum and const: those of the values that are of one of the types. */
int schema_literals(schema_job *j, const json_t *schema, unsigned types);

/* ---- schema_groups.c */

int schema_object(schema_job *j, const json_t *schema);
int schema_list(schema_job *j, const json_t *schema);

/* ---- schema_merge.c */

enum {
    TYPE_OBJECT = 1,
    TYPE_LIST = 2,
    TYPE_STRING = 4,
    TYPE_INTEGER = 8,
    TYPE_NUMBER = 16, /* of which TYPE_INTEGER is a part */
    TYPE_BOOLEAN = 32,
    TYPE_NULL = 64,
    ALL_TYPES = 127,
};

/* The types that `type` allows, all where there is none; 0: said. */
unsigned schema_types(schema_job *j, const json_t *schema);
unsigned schema_type_of(const json_t *value);
/* What a reference leads to; NULL: said. */
const json_t *schema_target(schema_job *j, const char *reference);
/* A schema that says what both say, without $ref and allOf of its own; owned by the job. NULL:
 * said. */
const json_t *schema_flat(schema_job *j, const json_t *schema);
const json_t *schema_both(schema_job *j, const json_t *a, const json_t *b);
/* Whether surely no value fits both. */
bool schema_apart(schema_job *j, const json_t *a, const json_t *b);
bool schema_is_note(const char *key); /* it says nothing of values */

#endif
