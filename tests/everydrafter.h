/* SPDX-License-Identifier: Apache-2.0
 *
 * Every drafter that there is, at work: on the demo model those that need no file, those it has
 * files for, and itself as a draft model; on a small one the heads that others make. Both together
 * have all of drafters/list.c: test_alloc holds that. */
#ifndef FTK_TESTS_EVERYDRAFTER_H
#define FTK_TESTS_EVERYDRAFTER_H

#include "foretoken.h"

typedef enum ed_place { ED_DEMO, ED_SMALL, ED_PLACES } ed_place;

enum { ED_MAX_PROMPT = 64, ED_PROMPTS = 16, ED_CONTEXT = 128, ED_MAX_DRAFTERS = 20 };

/* Writes the small model and its heads, under names that begin so; a test's setup. Returns 0, or -1
 * when it cannot. */
int ed_write(const char *name);
/* The model's file. */
const char *ed_path(ed_place where);
/* Gives an engine on that model all drafters of the place. */
ftk_err ed_add(ftk_engine *e, ed_place where);
/* The engine's drafters, `none` left out, into names[ED_MAX_DRAFTERS]; returns how many. */
int ed_drafters(const ftk_engine *e, const char **names);
/* One of ED_PROMPTS prompts, no two alike: at most ED_MAX_PROMPT tokens. */
ftk_err ed_prompt(const ftk_model *m, ed_place where, int which, int32_t *tokens, size_t *n);
/* A session at the prompt `which`, with a temperature, a seed and a verifier of its own, for which
 * its tokens are plain decoding's. */
ftk_err ed_open(ftk_session **out, ftk_engine *e, ed_place where, const char *drafter, int budget,
                int which);
/* Whether a drafter has rows of its own, of heads, a model or a policy. */
bool ed_has_rows(const char *drafter);
/* A session of one that has, which runs them as far as it may, paid or not: FTK_ROWS_ALWAYS. */
ftk_err ed_open_always(ftk_session **out, ftk_engine *e, ed_place where, const char *drafter,
                       int budget, int which);
#endif
