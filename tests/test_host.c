/* SPDX-License-Identifier: Apache-2.0
 * What a host may do: fork, set another floating-point environment, have been compiled with another
 * version of the header, be given fewer processors than the machine has. */
#include "support.h"

#include <fenv.h>
#include <sys/stat.h>
#include <sys/wait.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "base/cpus.h"

enum { N = 40, SECONDS = 120 };

static ftk_engine *open_threads(const ftk_model *m, int threads)
{
    ftk_engine *e = open_engine(m, threads, 256, FTK_TYPE_F16);
    int found;
    assert_int_equal(ftk_engine_find_drafters(e, DEMO, &found), FTK_OK);
    return e;
}

static ftk_session *start(ftk_engine *e, const ftk_model *m, const char *drafter)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = drafter;
    cfg.ignore_end = true;
    cfg.sampling.temperature = 0.8f;
    cfg.sampling.seed = 11;
    ftk_session *s;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    int32_t tokens[64];
    size_t n;
    assert_int_equal(ftk_tokenize(m, "Once upon a time", 16, FTK_TOK_BOS, tokens, 64, &n), FTK_OK);
    assert_int_equal(ftk_session_append(s, tokens, n), FTK_OK);
    return s;
}

/* N tokens of an engine of its own. */
static void generate(const ftk_model *m, int threads, const char *drafter, int32_t *out)
{
    ftk_engine *e = open_threads(m, threads);
    ftk_session *s = start(e, m, drafter);
    assert_int_equal(take(s, N, out), N);
    ftk_session_free(s);
    ftk_engine_free(e);
}

/* ---- fork */

/* The exit status of a child that has so many seconds. */
static int in_child(bool (*work)(void *ctx), void *ctx)
{
    fflush(NULL);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(SECONDS);
        _exit(work(ctx) ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

typedef struct {
    ftk_model *m;
    ftk_session *s;
    const int32_t *want;
} forked;

static bool open_in_child(void *ctx)
{
    const forked *const f = ctx;
    int32_t got[N];
    generate(f->m, 2, "auto", got);
    return memcmp(got, f->want, sizeof got) == 0;
}

static bool load_in_child(void *ctx)
{
    const forked *const f = ctx;
    ftk_model *m = load_model(DEMO);
    const bool right = open_in_child(&(forked){m, NULL, f->want});
    ftk_model_free(m);
    return right;
}

/* What the parent has begun goes on in both. */
static bool go_on(void *ctx)
{
    const forked *const f = ctx;
    int32_t got[N / 2];
    if (take(f->s, N / 2, got) != N / 2) return false;
    return memcmp(got, f->want + N / 2, sizeof got) == 0;
}

static bool go_on_and_free(void *ctx)
{
    const bool right = go_on(ctx);
    ftk_session_free(((forked *)ctx)->s);
    return right && open_in_child(ctx);
}

static void test_fork(void **state)
{
    (void)state;
    NEED(DEMO);
    int32_t want[N], got[N];
    ftk_model *m = load_model(DEMO);
    forked f = {m, NULL, want};
    int32_t plain[N];
    /* before this process has run anything but the load */
    for (int i = 0; i < N; i++) want[i] = 0;
    assert_true(
        WIFEXITED(in_child(open_in_child, &f))); /* it ends; what it says is compared below */
    generate(m, 1, "none", plain);
    generate(m, 2, "auto", want);
    assert_memory_equal(plain, want, sizeof want);
    assert_int_equal(in_child(open_in_child, &f), 0);
    assert_int_equal(in_child(load_in_child, &f), 0);
    ftk_engine *e = open_threads(m, 2);
    f.s = start(e, m, "auto");
    assert_int_equal(take(f.s, N / 2, got), N / 2);
    assert_memory_equal(got, want, sizeof got / 2);
    assert_int_equal(in_child(go_on_and_free, &f), 0);
    assert_int_equal(in_child(go_on, &f), 0);
    assert_true(go_on(&f));
    ftk_session_free(f.s);
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* ---- the floating-point environment */

typedef struct {
    int rounding;
    bool flush; /* denormal numbers, where the machine has that */
} environment;

static unsigned control(void)
{
#if defined(__x86_64__)
    return _mm_getcsr() & ~0x3Fu; /* less the flags */
#else
    return (unsigned)fegetround();
#endif
}

static void enter(environment env)
{
    assert_int_equal(fesetround(env.rounding), 0);
#if defined(__x86_64__)
    if (env.flush) _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
}

/* All that computes, from the file to a log-probability and drawn tokens. */
static void compute(environment env, int threads, double *score, int32_t *out)
{
    fenv_t before;
    fegetenv(&before);
    enter(env);
    const unsigned mine = control();
    ftk_model *m = load_model(DEMO);
    assert_int_equal(control(), mine);
    ftk_engine *e = open_threads(m, threads);
    assert_int_equal(control(), mine);
    ftk_session *s = start(e, m, "auto");
    assert_int_equal(take(s, N, out), N);
    assert_int_equal(control(), mine);
    ftk_session_free(s);
    assert_int_equal(ftk_score(e, out, N, score), FTK_OK);
    assert_int_equal(control(), mine);
    ftk_engine_free(e);
    ftk_model_free(m);
    fesetenv(&before);
}

static void test_floats(void **state)
{
    (void)state;
    NEED(DEMO);
    static const environment usual = {FE_TONEAREST, false};
    static const environment others[] = {
        {FE_UPWARD, false}, {FE_DOWNWARD, false}, {FE_TOWARDZERO, true}, {FE_TONEAREST, true}};
    double want;
    int32_t tokens[N];
    compute(usual, 1, &want, tokens);
    for (int threads = 1; threads <= 3; threads++)
        for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
            double got;
            int32_t same[N];
            compute(others[i], threads, &got, same);
            assert_memory_equal(&got, &want, sizeof got);
            assert_memory_equal(same, tokens, sizeof same);
        }
}

/* ---- structs that grow */

static char last_line[512];

static void keep_line(void *ctx, ftk_log_level level, const char *line)
{
    (void)ctx;
    (void)level;
    snprintf(last_line, sizeof last_line, "%s", line);
}

static void test_init_stays_inside(void **state)
{
    (void)state;
    union {
        ftk_model_config model;
        ftk_engine_config engine;
        ftk_session_config session;
        ftk_drafter_config drafter;
        ftk_chat_config chat;
        unsigned char bytes[512];
    } u;
    for (size_t size = sizeof(size_t); size <= 256; size += 4)
        for (int i = 0; i < 5; i++) {
            memset(&u, 0xA5, sizeof u);
            if (i == 0) ftk_model_config_fill(&u.model, size);
            if (i == 1) ftk_engine_config_fill(&u.engine, size);
            if (i == 2) ftk_session_config_fill(&u.session, size);
            if (i == 3) ftk_drafter_config_fill(&u.drafter, size);
            if (i == 4) ftk_chat_config_fill(&u.chat, size);
            size_t said;
            memcpy(&said, &u, sizeof said);
            assert_int_equal(said, size);
            for (size_t b = size; b < sizeof u; b++) assert_int_equal(u.bytes[b], 0xA5);
        }
}

/* A caller compiled with a header that had fewer fields, or has more. */
static void test_other_sizes(void **state)
{
    (void)state;
    NEED(DEMO);
    union {
        ftk_model_config cfg;
        unsigned char bytes[sizeof(ftk_model_config) + 64];
    } m;
    memset(&m, 0xA5, sizeof m);
    ftk_model_config_fill(&m.cfg, offsetof(ftk_model_config, kernels)); /* the size and the host */
    m.cfg.host.log = keep_line;
    ftk_model *model;
    assert_int_equal(ftk_model_load(&model, DEMO, &m.cfg), FTK_OK);
    ftk_model_free(model);
    ftk_model_config_fill(&m.cfg, sizeof m);
    m.cfg.host.log = keep_line;
    assert_int_equal(ftk_model_load(&model, DEMO, &m.cfg), FTK_OK);
    ftk_model_free(model);
    m.bytes[sizeof m - 1] = 1; /* something that this library has never heard of */
    assert_int_equal(ftk_model_load(&model, DEMO, &m.cfg), FTK_ERR_UNSUPPORTED);
    assert_null(model);
    assert_non_null(strstr(last_line, "the model config sets something"));
    m.bytes[sizeof m - 1] = 0;
    static const size_t never[] = {
        0,        1,       sizeof(size_t) - 1,
        SIZE_MAX, 1 << 20, offsetof(ftk_model_config, kernels) + 3}; /* half a pointer */
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
        m.cfg.size = never[i];
        assert_int_equal(ftk_model_load(&model, DEMO, &m.cfg), FTK_ERR_INVALID);
    }
    assert_int_equal(ftk_model_load(&model, DEMO, NULL), FTK_ERR_INVALID);

    model = load_model(DEMO);
    union {
        ftk_engine_config cfg;
        unsigned char bytes[sizeof(ftk_engine_config) + 8];
    } e;
    memset(&e, 0xA5, sizeof e);
    ftk_engine_config_fill(&e.cfg, offsetof(ftk_engine_config, kv_type)); /* threads and slots */
    e.cfg.threads = 2;
    ftk_engine *engine;
    assert_int_equal(ftk_engine_open(&engine, model, &e.cfg), FTK_OK);
    assert_int_equal(ftk_engine_threads(engine), 2);
    ftk_engine *none;
    ftk_engine_config_fill(&e.cfg, sizeof e);
    e.bytes[sizeof e - 1] = 1;
    assert_int_equal(ftk_engine_open(&none, model, &e.cfg), FTK_ERR_UNSUPPORTED);
    assert_null(none);
    union {
        ftk_drafter_config cfg;
        unsigned char bytes[sizeof(ftk_drafter_config) + 8];
    } d;
    ftk_drafter_config_fill(&d.cfg, sizeof d);
    d.bytes[sizeof d - 1] = 1;
    assert_int_equal(ftk_engine_add_drafter_as(engine, DEMO, &d.cfg), FTK_ERR_UNSUPPORTED);
    ftk_drafter_config_fill(&d.cfg, offsetof(ftk_drafter_config, layers)); /* the size alone */
    assert_int_equal(ftk_engine_add_drafter_as(engine, DEMO, &d.cfg), FTK_ERR_INVALID);
    union {
        ftk_session_config cfg;
        unsigned char bytes[sizeof(ftk_session_config) + 8];
    } s;
    memset(&s, 0xA5, sizeof s);
    ftk_session_config_fill(&s.cfg, offsetof(ftk_session_config, n_ctx));
    s.cfg.drafter = "lookup";
    ftk_session *session;
    assert_int_equal(ftk_session_open(&session, engine, &s.cfg), FTK_OK);
    union { /* of figures that nobody knows here, a caller gets zeros, and no more than it has */
        ftk_engine_stats engine;
        ftk_stats session;
        unsigned char bytes[sizeof(ftk_stats) + 16];
    } more;
    for (int i = 0; i < 2; i++) {
        const size_t known = i ? sizeof(ftk_stats) : sizeof(ftk_engine_stats);
        memset(&more, 0xA5, sizeof more);
        if (i == 0) ftk_engine_report(engine, &more.engine, known + 8);
        if (i == 1) ftk_session_report(session, &more.session, known + 8);
        for (size_t b = known; b < known + 8; b++) assert_int_equal(more.bytes[b], 0);
        assert_int_equal(more.bytes[known + 8], 0xA5);
    }
    ftk_session_free(session);
    ftk_session_config_fill(&s.cfg, sizeof s);
    s.bytes[sizeof(ftk_session_config)] = 1;
    assert_int_equal(ftk_session_open(&session, engine, &s.cfg), FTK_ERR_UNSUPPORTED);
    ftk_session_config_init(&s.cfg);
    s.cfg.sampling.reserved[1] = 1;
    assert_int_equal(ftk_session_open(&session, engine, &s.cfg), FTK_ERR_UNSUPPORTED);
    ftk_engine_free(engine);

    unsigned char few[offsetof(ftk_model_info, kernels) + 1];
    few[sizeof few - 1] = 0xA5;
    ftk_model_report(model, (ftk_model_info *)(void *)few, sizeof few - 1);
    const char *architecture;
    memcpy(&architecture, few + offsetof(ftk_model_info, architecture), sizeof architecture);
    assert_string_equal(architecture, "llama");
    assert_int_equal(few[sizeof few - 1], 0xA5);
    ftk_model_free(model);
}

/* ---- processors */

static char fake_root[] = "/tmp/ftk-cpus-XXXXXX";

static void put_file(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", fake_root, path);
    for (char *p = full + sizeof fake_root; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(full, 0700);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

#define V2(root)                                                                                   \
    "31 23 0:27 " root " /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1(root) "33 32 0:30 " root " /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
#define OTHER    "25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"

typedef struct {
    const char *mounts, *groups, *path[3], *text[3];
    double want;
} quota;

static void test_quota(void **state)
{
    (void)state;
    static const quota all[] = {
        {OTHER, "0::/\n", {NULL}, {NULL}, 0},
        {V2("/"), "0::/\n", {NULL}, {NULL}, 0},
        {V2("/"), "0::/a/b\n", {"/sys/fs/cgroup/a/b/cpu.max"}, {"150000 100000\n"}, 1.5},
        {V2("/"), "0::/a/b\n", {"/sys/fs/cgroup/a/b/cpu.max"}, {"max 100000\n"}, 0},
        /* the one above is narrower */
        {OTHER V2("/"),
         "0::/a/b\n",
         {"/sys/fs/cgroup/a/b/cpu.max", "/sys/fs/cgroup/a/cpu.max"},
         {"400000 100000\n", "200000 100000\n"},
         2},
        /* a container with a namespace of its own, and one without */
        {V2("/"), "0::/\n", {"/sys/fs/cgroup/cpu.max"}, {"50000 100000\n"}, 0.5},
        {V2("/docker/7"), "0::/docker/7\n", {"/sys/fs/cgroup/cpu.max"}, {"300000 100000\n"}, 3},
        {V2("/"), "0::/../../x\n", {"/sys/fs/cgroup/cpu.max"}, {"300000 100000\n"}, 3},
        {V1("/"),
         "5:memory:/m\n4:cpu,cpuacct:/g\n0::/\n",
         {"/sys/fs/cgroup/cpu/g/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/g/cpu.cfs_period_us"},
         {"250000\n", "100000\n"},
         2.5},
        {V1("/"),
         "4:cpu,cpuacct:/g\n",
         {"/sys/fs/cgroup/cpu/g/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/g/cpu.cfs_period_us"},
         {"-1\n", "100000\n"},
         0},
        {V1("/docker/9"),
         "3:cpuset:/x\n2:cpuacct,cpu:/docker/9/deep\n",
         {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"},
         {"100000", "50000"},
         2},
        {"31 23 0:27 / /sys/fs/my\\040group rw - cgroup2 cgroup2 rw\n",
         "0::/\n",
         {"/sys/fs/my group/cpu.max"},
         {"100000 100000\n"},
         1},
        {V2("/"), "0::/a\n", {"/sys/fs/cgroup/a/cpu.max"}, {"nonsense"}, 0},
        {V2("/"), "0::/a\n", {"/sys/fs/cgroup/a/cpu.max"}, {"100000 0\n"}, 0},
        {"31 23 0:27\n\n" V2("/"),
         "::\n0\n0::/a\n",
         {"/sys/fs/cgroup/a/cpu.max"},
         {"1000 1000\n"},
         1},
    };
    assert_non_null(mkdtemp(fake_root));
    char command[64];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        put_file("/proc/self/mountinfo", all[i].mounts);
        put_file("/proc/self/cgroup", all[i].groups);
        for (int j = 0; j < 3 && all[i].path[j]; j++) put_file(all[i].path[j], all[i].text[j]);
        if (ftk_cpus_quota(fake_root) != all[i].want)
            fail_msg("case %zu: %g, not %g", i, ftk_cpus_quota(fake_root), all[i].want);
        snprintf(command, sizeof command, "rm -r %s/*", fake_root);
        assert_int_equal(system(command), 0);
    }
    assert_true(ftk_cpus_quota(fake_root) == 0); /* no /proc at all */
    rmdir(fake_root);
    assert_in_range(ftk_cpus(), 1, 256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_floats),
        cmocka_unit_test(test_init_stays_inside),
        cmocka_unit_test(test_other_sizes),
        cmocka_unit_test(test_quota),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
