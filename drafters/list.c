/* SPDX-License-Identifier: Apache-2.0
 * All drafters. `auto` takes the first that has what it needs, of those first whose files the
 * host has named: s4c leads as its heads were right more often than a head of EAGLE-3 that
 * learned as long, and take less (docs/results/2026-12-01-eagle3.md). */
#include <stddef.h>

#include "drafters/drafter.h"

const ftk_drafter_ops *const ftk_drafter_list[] = {&ftk_drafter_s4c,
                                                   &ftk_drafter_eagle3,
                                                   &ftk_drafter_dspark,
                                                   &ftk_drafter_dflash,
                                                   &ftk_drafter_medusa,
                                                   &ftk_drafter_draft_model,
                                                   &ftk_drafter_firp,
                                                   &ftk_drafter_recycle,
                                                   &ftk_drafter_jacobi,
                                                   &ftk_drafter_lookup,
                                                   &ftk_drafter_dash,
                                                   &ftk_drafter_dash_direct,
                                                   NULL};
_Static_assert(sizeof ftk_drafter_list / sizeof *ftk_drafter_list <= FTK_MAX_DRAFTERS + 1,
               "the engine keeps something for each");
