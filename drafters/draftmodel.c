/* SPDX-License-Identifier: Apache-2.0
 * A small model of the same vocabulary drafts ("Fast Inference from Transformers via Speculative
 * Decoding", arXiv 2211.17192): grown.h says how. */
#include "drafters/grown.h"

const ftk_drafter_ops ftk_drafter_draft_model = {
    .name = "draft-model",
    .state_size = sizeof(ftk_grown),
    .rates_size = sizeof(ftk_grown_known),
    .rates_init = ftk_grown_init_known,
    .wants = FTK_WANT_PASSES | FTK_WANT_SUCCESSORS | FTK_WANT_MODEL,
    .init = ftk_grown_init,
    .propose = ftk_grown_propose,
    .propose_all = ftk_grown_propose_all,
    .learn = ftk_grown_learn,
    .reset = ftk_grown_reset,
    .free = ftk_grown_free,
};
