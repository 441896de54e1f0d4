/* SPDX-License-Identifier: Apache-2.0
 * Grammars of JSON schemas: what they take and say, what is refused, and masks of tokens. The
 * same with more keywords, beside Python's jsonschema: grammar_schemas.py. */
#include "support.h"

#include "grammar/words.h"
#include "grammarwalks.h"
#include "jsonfits.h"

/* ---- by hand */

static grammar *make(const char *schema, grammar_error *e)
{
    json_t *j = json_loads(schema, JSON_DECODE_ANY, NULL);
    if (!j) fail_msg("no JSON: %s", schema);
    grammar *g = grammar_new(NULL, &(grammar_piece){"", j, ""}, 1, "", 1, e);
    json_decref(j);
    return g;
}

#define TREE                                                                                       \
    "{\"$ref\":\"#/$defs/node\",\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{"         \
    "\"v\":{\"type\":\"integer\"},\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/node\"},"               \
    "{\"type\":\"null\"}]}},\"required\":[\"v\",\"next\"],\"additionalProperties\":false}}}"
#define PERSON                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":"       \
    "\"integer\",\"minimum\":0,\"maximum\":150},\"mail\":{\"type\":\"string\"}},\"required\":["    \
    "\"name\",\"age\"],\"additionalProperties\":false}"

static const struct {
    const char *schema, *takes[7], *not_[7];
} cases[] = {
    {"{\"type\":\"integer\"}",
     {"0", "-0", "17", "-123456789012345678", " 5"},
     {"01", "1.0", "", "+1", "1e3", "--1", "5 "}},
    {"{\"type\":\"number\"}",
     {"0", "-1.5", "2e10", "1E-05", "0.25"},
     {"1.", ".5", "01", "1e", "NaN", "1e500"}},
    {"{\"type\":\"number\",\"minimum\":-1.5,\"exclusiveMaximum\":20.25}",
     {"-1.5", "-1.50", "0", "20.2499", "20", "9.999"},
     {"-1.51", "20.25", "20.3", "100", "-2", "020"}},
    {"{\"type\":\"integer\",\"minimum\":900719925474099301,\"maximum\":900719925474099302}",
     {"900719925474099301", "900719925474099302"},
     {"900719925474099300", "900719925474099303", "1", "-900719925474099301"}},
    {"{\"type\":\"integer\",\"exclusiveMinimum\":-900719925474099301,\"maximum\":0}",
     {"-900719925474099300", "0"},
     {"-900719925474099301", "1"}},
    {"{\"type\":\"integer\",\"minimum\":-5,\"maximum\":120}",
     {"-5", "0", "120", "99"},
     {"-6", "121", "1200", "-0"}},
    {"{\"type\":\"integer\",\"exclusiveMinimum\":9,\"exclusiveMaximum\":11}",
     {"10"},
     {"9", "11", "1", "100"}},
    {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
     {"\"ab\"", "\"\xC3\xA9\xE6\x97\xA5x\"", "\"\\n\\u00e9\"", "\"\\ud83d\\ude00b\"",
      "\"\xF0\x9F\x98\x80.\""},
     {"\"a\"", "\"abcd\"", "\"a\nb\"", "\"\\ud83dab\"", "\"\xC3(\"", "\"\xED\xA0\x80x\"",
      "\"\xC0\x80x\""}},
    {"{\"type\":\"string\",\"pattern\":\"^(foo|ba+r)-[0-9]{2,3}$\"}",
     {"\"foo-12\"", "\"baaar-123\""},
     {"\"foo-1\"", "\"xfoo-12\"", "\"br-12\"", "\"foo-1234\""}},
    {"{\"type\":\"string\",\"pattern\":\"ab|^c\\\\d$\"}",
     {"\"xxabx\"", "\"c5\"", "\"ab\""},
     {"\"c55\"", "\"ba\"", "\"\""}},
    {"{\"type\":\"string\",\"pattern\":\"^(ab)*$\",\"minLength\":3,\"maxLength\":5}",
     {"\"abab\""},
     {"\"ab\"", "\"ababab\"", "\"aba\""}},
    {"{\"type\":\"string\",\"format\":\"date\"}",
     {"\"2026-11-30\""},
     {"\"2026-13-30\"", "\"26-1-1\""}},
    {"{\"enum\":[\"a\",\"b\\\"\",1.5,null,[1,{\"x\":true}]]}",
     {"\"a\"", "\"b\\\"\"", "1.5", "null", "[1, {\"x\": true}]"},
     {"\"c\"", "1", "[1]", "\"\""}},
    {PERSON,
     {"{\"name\": \"A\", \"age\": 3}", "{\"name\":\"\",\"age\":150,\"mail\":\"x\"}",
      "{\n    \"name\": \"A\",\n    \"age\": 3\n}", "{ \"name\":\"A\", \"age\":3 }"},
     {"{}", "{\"age\":3,\"name\":\"A\"}", "{\"name\":\"A\",\"age\":151}",
      "{\"name\":\"A\",\"age\":3,}", "{\"name\":\"A\",\"age\":3,\"more\":1}",
      "{\"name\":\"A\",  \"age\":3}", "{\"name\":\"A\"\n,\"age\":3}"}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"},\"ab\":{}},"
     "\"additionalProperties\":{\"type\":\"integer\"}}",
     {"{}", "{\"a\":null}", "{\"ab\":[1]}", "{\"abc\":1,\"b\":2}", "{\"a\":null,\"\":3}"},
     {"{\"a\":1}", "{\"b\":\"x\"}", "{\"abc\":1,\"a\":null}", "{\"\\u0061\":1}"}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"minItems\":1,\"maxItems\":3}",
     {"[true]", "[true, false]", "[true,false,true]", "[\n  true\n]"},
     {"[]", "[true,]", "[true,true,true,true]", "[1]"}},
    {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"string\"}],\"items\":"
     "false,\"minItems\":1}",
     {"[1]", "[1,\"a\"]"},
     {"[]", "[\"a\"]", "[1,\"a\",2]"}},
    {"{\"type\":\"array\",\"minItems\":2,\"maxItems\":2}",
     {"[1,{}]", "[[],[null]]"},
     {"[1]", "[1,2,3]"}},
    {TREE,
     {"{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}"},
     {"{\"v\":1}", "{\"v\":1,\"next\":{}}"}},
    {"{}", {"1", "\"x\"", "{\"a\":[{}]}", "[]", "null"}, {"", "{", "tru", "'x'", "[1,]"}},
    {"{\"type\":\"object\"}", {"{}", "{\"a\":{\"b\":[1,\"x\"]}}"}, {"[]", "{\"a\"}", "1"}},
    {"{\"allOf\":[{\"$ref\":\"#/$defs/"
     "p\"},{\"required\":[\"x\"]}],\"$defs\":{\"p\":{\"type\":\"object\",\"properties\":{\"x\":{"
     "\"type\":\"integer\"}}}}}",
     {"{\"x\":1}"},
     {"{}"}},
    {"{\"type\":\"object\",\"properties\":{\"k\":{\"type\":\"string\"}},\"anyOf\":[{\"required\":["
     "\"k\"]},{\"properties\":{\"k\":{\"const\":\"z\"}}}]}",
     {"{\"k\":\"a\"}", "{}", "{\"k\":\"z\"}"},
     {"{\"k\":1}"}},
    {"{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"t\":{\"const\":\"a\"},\"x\":{\"type\":"
     "\"integer\"}},\"required\":[\"t\",\"x\"]},"
     "{\"type\":\"object\",\"properties\":{\"t\":{\"const\":\"b\"}},\"required\":[\"t\"]},{"
     "\"type\":\"null\"}]}",
     {"{\"t\":\"a\",\"x\":1}", "{\"t\":\"b\"}", "null"},
     {"{\"t\":\"a\"}", "{\"t\":\"b\",\"x\":1}"}},
    {"{\"type\":[\"string\",\"null\"]}", {"null", "\"x\""}, {"1"}},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        grammar_error e;
        grammar *g = make(cases[i].schema, &e);
        if (!g) fail_msg("%s: %s %s", cases[i].schema, e.path, e.message);
        for (int k = 0; k < 7; k++) {
            if (cases[i].takes[k] && !grammar_takes(g, cases[i].takes[k]))
                fail_msg("%s does not take %s", cases[i].schema, cases[i].takes[k]);
            if (cases[i].not_[k] && grammar_takes(g, cases[i].not_[k]))
                fail_msg("%s takes %s", cases[i].schema, cases[i].not_[k]);
        }
        grammar_free(g);
    }
}

static const struct {
    const char *schema, *path, *word;
} refusals[] = {
    {"3", "#", "schema"},
    {"{\"type\":\"thing\"}", "#", "\"type\""},
    {"{\"type\":[\"string\",3]}", "#", "\"type\""},
    {"{\"type\":\"integer\",\"multipleOf\":3}", "#", "\"multipleOf\""},
    {"{\"properties\":{\"a\":{\"items\":{\"not\":{}}}}}", "#/properties/a/items", "\"not\""},
    {"{\"anyOf\":[{},{\"patternProperties\":{}}]}", "#/anyOf/1", "\"patternProperties\""},
    {"{\"anyOf\":[]}", "#", "\"anyOf\""},
    {"{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"string\",\"minLength\":2}]}", "#", "\"oneOf\""},
    {"{\"$ref\":\"#/$defs/none\"}", "#", "\"$ref\""},
    {"{\"$ref\":\"http://example.com/x\"}", "#", "\"$ref\""},
    {"{\"$ref\":\"#\"}", "#", "no value"},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", "#",
     "no value"},
    {"{\"type\":\"object\",\"properties\":{\"a\":{}},\"required\":[\"b\"],\"additionalProperties\":"
     "false}",
     "#", "\"required\""},
    {"{\"type\":\"integer\",\"minimum\":5,\"maximum\":4}", "#", "no value"},
    {"{\"type\":\"integer\",\"minimum\":\"5\"}", "#", "\"minimum\""},
    {"{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", "#", "no value"},
    {"{\"type\":\"string\",\"maxLength\":-1}", "#", "\"maxLength\""},
    {"{\"type\":\"string\",\"pattern\":\"a(\"}", "#", "\"pattern\""},
    {"{\"type\":\"string\",\"pattern\":\"(?=a)b\"}", "#", "\"pattern\""},
    {"{\"type\":\"string\",\"pattern\":\"(a)\\\\1\"}", "#", "\"pattern\""},
    {"{\"type\":\"string\",\"pattern\":\"a{1000}{1000}\"}", "#", "\"pattern\""},
    {"{\"type\":\"string\",\"pattern\":\"^a{3}$\",\"maxLength\":2}", "#", "no value"},
    {"{\"enum\":[]}", "#", "\"enum\""},
    {"{\"enum\":[\"a\"],\"type\":\"integer\"}", "#", "no value"},
    {"{\"type\":\"array\",\"items\":[{}]}", "#", "\"items\""},
    {"{\"type\":\"array\",\"minItems\":2,\"items\":false}", "#", "no value"},
    {"{\"type\":\"array\",\"uniqueItems\":true}", "#", "\"uniqueItems\""},
    {"{\"allOf\":[{\"pattern\":\"a\"},{\"pattern\":\"b\"}]}", "#", "\"pattern\""},
    {"{\"allOf\":[{\"$ref\":\"#\"}]}", "#", "too deeply"},
    {"false", "#", "no value"},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        grammar_error e;
        grammar *g = make(refusals[i].schema, &e);
        if (g || strcmp(e.path, refusals[i].path) != 0 || !strstr(e.message, refusals[i].word))
            fail_msg("%s: %s, %s %s", refusals[i].schema, g ? "taken" : "refused", e.path,
                     e.message);
        grammar_free(g);
    }
}

/* Deep, as far as it goes: what would go on for ever ends. */
static void test_depth(void **state)
{
    (void)state;
    grammar_error e;
    grammar *g = make("{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}", &e);
    char text[200];
    for (size_t n = 1; n < 90; n++) {
        memset(text, '[', n);
        text[n] = 0;
        assert_int_equal(grammar_begins(g, text), n <= 48);
        memset(text + n, ']', n);
        text[2 * n] = 0;
        assert_int_equal(grammar_takes(g, text), n <= 48);
    }
    grammar_free(g);
}

/* ---- by chance */

static json_t *schema_of(uint64_t *r, int depth);

static json_t *members_of(uint64_t *r, int depth)
{
    static const char *const names[] = {"a", "b", "ab", "name", "\xC3\xA9", "\""};
    json_t *properties = json_object(), *required = json_array();
    for (int i = 0; i < 6; i++) {
        if (grammar_draw(r) % 2) continue;
        json_object_set_new(properties, names[i], schema_of(r, depth - 1));
        if (grammar_draw(r) % 2) json_array_append_new(required, json_string(names[i]));
    }
    json_t *j = json_pack("{s:s,s:o,s:o}", "type", "object", "properties", properties, "required",
                          required);
    const uint64_t others = grammar_draw(r) % 4;
    if (others == 0) json_object_set_new(j, "additionalProperties", json_false());
    if (others == 1) json_object_set_new(j, "additionalProperties", schema_of(r, 0));
    return j;
}

static json_t *list_of(uint64_t *r, int depth)
{
    json_t *j = json_pack("{s:s,s:o}", "type", "array", "items", schema_of(r, depth - 1));
    const json_int_t least = (json_int_t)(grammar_draw(r) % 3);
    if (grammar_draw(r) % 2) json_object_set_new(j, "minItems", json_integer(least));
    if (grammar_draw(r) % 2)
        json_object_set_new(j, "maxItems", json_integer(least + (json_int_t)(grammar_draw(r) % 3)));
    if (grammar_draw(r) % 3 == 0)
        json_object_set_new(j, "prefixItems",
                            json_pack("[o,o]", schema_of(r, depth - 1), schema_of(r, depth - 1)));
    return j;
}

static json_t *bounded(uint64_t *r, const char *type, const char *low, const char *high, int span)
{
    json_t *j = json_pack("{s:s}", "type", type);
    const json_int_t at =
        (json_int_t)(grammar_draw(r) % (uint64_t)span) - (low[3] == 'i' ? span / 2 : 0);
    if (grammar_draw(r) % 2) json_object_set_new(j, low, json_integer(at));
    if (grammar_draw(r) % 2)
        json_object_set_new(j, high,
                            json_integer(at + (json_int_t)(grammar_draw(r) % (uint64_t)span)));
    return j;
}

static json_t *schema_of(uint64_t *r, int depth)
{
    static const char *const simple[] = {"{\"type\":\"boolean\"}",
                                         "{\"type\":\"null\"}",
                                         "{}",
                                         "{\"enum\":[\"x\",1,null,{\"k\":[2.5]}]}",
                                         "{\"const\":\"\\\"\\n\"}",
                                         "{\"type\":[\"string\",\"integer\"]}"};
    switch (grammar_draw(r) % (depth > 0 ? 10 : 5)) {
    case 0: return bounded(r, "string", "minLength", "maxLength", 5);
    case 1: return bounded(r, "integer", "minimum", "maximum", 4000);
    case 2: return bounded(r, "number", "minimum", "maximum", 100);
    case 3:
    case 4: return json_loads(simple[grammar_draw(r) % 6], 0, NULL);
    case 5:
        return json_pack("{s:[o,o]}", "anyOf", schema_of(r, depth - 1), schema_of(r, depth - 1));
    case 6:
        return json_pack("{s:s,s:{s:s}}", "type", "array", "items", "$ref",
                         grammar_draw(r) % 2 ? "#" : "#/$defs/other");
    case 7: return list_of(r, depth);
    default: return members_of(r, depth);
    }
}

static json_t *root_of(uint64_t *r)
{
    json_t *root = grammar_draw(r) % 2 ? members_of(r, 3) : list_of(r, 3);
    json_object_set_new(root, "$defs", json_pack("{s:o}", "other", schema_of(r, 2)));
    return root;
}

/* Whatever a grammar says is JSON that fits. */
static void test_chance(void **state)
{
    (void)state;
    int said = 0, impossible = 0;
    for (uint64_t i = 0; i < 250; i++) {
        uint64_t r = i;
        grammar_error e;
        json_t *schema = root_of(&r);
        grammar *g = grammar_new(NULL, &(grammar_piece){"", schema, ""}, 1, "", 1, &e);
        if (!g && !strstr(e.message, "no value fits")) fail_msg("%s %s", e.path, e.message);
        impossible += !g;
        for (int k = 0; k < 8 && g; k++) {
            char *text = grammar_say(g, &r);
            json_t *v = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
            if (text && (!v || !json_fits(v, schema, schema)))
                fail_msg("%s does not fit %s", text, json_dumps(schema, 0));
            said += v != NULL;
            json_decref(v);
            free(text);
        }
        grammar_free(g);
        json_decref(schema);
    }
    assert_true(said > 1500 && impossible < 60);
}

/* ---- tokens */

static ftk_model *model;
static grammar_words *words;

static int open_words(void **state)
{
    (void)state;
    if (access(DEMO, R_OK) != 0) return 0;
    model = load_model(DEMO);
    words = grammar_words_new(model, 4096, NULL, 0);
    return 0;
}

static int close_words(void **state)
{
    (void)state;
    grammar_words_free(words);
    ftk_model_free(model);
    return 0;
}

static bool token_fits(grammar *g, int at, int32_t token)
{
    size_t n;
    const unsigned char *const p = grammar_word(words, token, &n);
    if (ftk_model_is_end(model, token)) return grammar_may_end(g, at);
    for (size_t i = 0; i < n; i++) at = grammar_step(g, at, p[i]);
    return n > 0 && at != GRAMMAR_DEAD;
}

static void check_mask(grammar *g, int at)
{
    uint32_t allowed[4096 / 32] = {0};
    grammar_mask(g, at, allowed);
    for (int32_t i = 0; i < 4096; i++)
        if ((allowed[i / 32] >> i % 32 & 1) != token_fits(g, at, i))
            fail_msg("token %d: the mask says %d", i, allowed[i / 32] >> i % 32 & 1);
}

/* Masks hold the tokens whose bytes may come, no other and no fewer, also when they were kept. */
static void test_masks(void **state)
{
    (void)state;
    NEED(DEMO);
    for (uint64_t i = 0; i < 40; i++) {
        uint64_t r = 1000 + i;
        grammar_error e;
        json_t *schema =
            i < 4 ? json_pack("{s:s,s:i}", "type", "string", "maxLength", (int)i * 9) : root_of(&r);
        grammar *g = grammar_new(words, &(grammar_piece){"", schema, ""}, 1, "", 1, &e);
        json_decref(schema);
        if (!g) continue;
        char *text = grammar_say(g, &r);
        int at = grammar_start(g);
        for (const char *p = text; p && *p && p < text + 60; p++) {
            if (p < text + 4 || grammar_draw(&r) % 6 == 0) {
                check_mask(g, at);
                check_mask(g, at);
            }
            at = grammar_step(g, at, (unsigned char)*p);
        }
        free(text);
        grammar_free(g);
    }
}

/* A model's answers by its own choice and by chance: they fit, and are the same with any
 * drafter. */
static void test_answers(void **state)
{
    (void)state;
    NEED(DEMO);
    enum { MOST = 160 };
    static const char *const schemas[] = {PERSON, TREE,
                                          "{\"type\":\"array\",\"items\":{\"type\":\"string\","
                                          "\"maxLength\":12},\"minItems\":2,\"maxItems\":4}",
                                          "{\"anyOf\":[{\"type\":\"object\",\"properties\":{"
                                          "\"colour\":{\"enum\":[\"red\",\"green\",\"blue\"]},"
                                          "\"count\":{\"type\":\"integer\",\"minimum\":3,"
                                          "\"maximum\":12}},\"required\":[\"colour\",\"count\"]},"
                                          "{\"type\":\"null\"}]}"};
    ftk_engine *engine = open_engine(model, 1, 2048, FTK_TYPE_F16);
    for (int i = 0; i < 8; i++) {
        grammar_error e;
        json_t *schema = json_loads(schemas[i / 2], 0, NULL);
        grammar *g = grammar_new(words, &(grammar_piece){"", schema, ""}, 1, "", 1, &e);
        char first[4 * MOST] = "";
        int32_t prompt[16];
        size_t n_prompt;
        assert_int_equal(ftk_tokenize(model, "Answer:", 7, FTK_TOK_BOS, prompt, 16, &n_prompt),
                         FTK_OK);
        for (const char *const *name = ftk_drafters(); *name; name++) {
            if (!ftk_drafter_lossless(*name) || !ftk_engine_has_drafter(engine, *name)) continue;
            ftk_session_config cfg;
            ftk_session_config_init(&cfg);
            cfg.drafter = *name;
            cfg.budget = 6;
            cfg.sampling.temperature = i % 2 ? 1.0f : 0;
            cfg.sampling.seed = 5;
            ftk_session *s;
            assert_int_equal(ftk_session_open(&s, engine, &cfg), FTK_OK);
            assert_int_equal(ftk_session_append(s, prompt, n_prompt), FTK_OK);
            grammar_walk walk = {.g = g, .start = n_prompt};
            assert_int_equal(ftk_session_set_mask(s, grammar_allow, &walk), FTK_OK);
            ftk_session_limit(s, MOST);
            ftk_result r;
            do assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
            while (r.finish == FTK_FINISH_NONE);
            size_t n, len;
            char text[4 * MOST];
            const int32_t *const tokens = ftk_session_tokens(s, &n);
            assert_int_equal(ftk_detokenize(model, tokens + n_prompt, n - n_prompt, 0, text,
                                            sizeof text - 1, &len),
                             FTK_OK);
            text[len] = 0;
            if (name == ftk_drafters()) strcpy(first, text);
            assert_string_equal(text, first);
            ftk_session_free(s);
            grammar_walk_free(&walk);
            if (r.finish == FTK_FINISH_LIMIT) {
                assert_true(grammar_begins(g, text));
                continue;
            }
            json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
            assert_int_equal(r.finish, FTK_FINISH_END);
            if (!v || !json_fits(v, schema, schema)) fail_msg("%s", text);
            json_decref(v);
        }
        grammar_free(g);
        json_decref(schema);
    }
    ftk_engine_free(engine);
}

static int32_t token_of(const char *text)
{
    size_t n;
    for (int32_t i = 0; i < 4096; i++) {
        const unsigned char *const p = grammar_word(words, i, &n);
        if (n == strlen(text) && memcmp(p, text, n) == 0) return i;
    }
    fail_msg("no token %s", text);
    return -1;
}

static uint64_t sum_of_mask(grammar_walk *walk, const int32_t *tokens, size_t n)
{
    uint32_t allowed[4096 / 32] = {0};
    uint64_t sum = 0;
    grammar_allow(walk, tokens, n, allowed);
    for (int i = 0; i < 4096 / 32; i++) sum = sum * 31 + allowed[i];
    return sum;
}

/* What is worked out does not grow without end: it is forgotten, and found again. */
static void test_tidy(void **state)
{
    (void)state;
    NEED(DEMO);
    enum { LONG = 40000 };
    grammar_error e;
    json_t *schema =
        json_pack("{s:s,s:i,s:i}", "type", "string", "minLength", LONG - 3, "maxLength", LONG);
    grammar *g = grammar_new(words, &(grammar_piece){"", schema, ""}, 1, "", 1, &e);
    json_decref(schema);
    int32_t *const tokens = calloc(LONG + 1, sizeof *tokens);
    const int32_t quote = token_of("\""), letter = token_of("a");
    tokens[0] = quote;
    for (int i = 1; i <= LONG; i++) tokens[i] = letter;
    grammar_walk walk = {.g = g}, other = {.g = g};
    const uint64_t early = sum_of_mask(&walk, tokens, 100), late = sum_of_mask(&walk, tokens, LONG);
    assert_true(early != late);
    assert_int_equal(sum_of_mask(&other, tokens, 100), early);
    assert_true(grammar_epoch(g) > 0);
    assert_int_equal(sum_of_mask(&walk, tokens, LONG), late);
    assert_int_equal(sum_of_mask(&walk, tokens, LONG - 100), early);
    uint32_t allowed[4096 / 32] = {0};
    grammar_allow(&walk, tokens, LONG + 1, allowed);
    for (int32_t i = 0; i < 4096; i++) { /* one by its byte, too */
        size_t n;
        const unsigned char *const p = grammar_word(words, i, &n);
        assert_int_equal(allowed[i / 32] >> i % 32 & 1, n == 1 && *p == '"');
    }
    grammar_walk_free(&walk);
    grammar_walk_free(&other);
    grammar_free(g);
    free(tokens);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_depth), cmocka_unit_test(test_chance),
        cmocka_unit_test(test_masks), cmocka_unit_test(test_answers),
        cmocka_unit_test(test_tidy),
    };
    return cmocka_run_group_tests(tests, open_words, close_words);
}
