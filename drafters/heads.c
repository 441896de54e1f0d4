/* SPDX-License-Identifier: Apache-2.0
 * Draft models, and heads that others have made; grown.h says how their drafts grow.
 *
 * A small model of the same vocabulary: "Fast Inference from Transformers via Speculative
 * Decoding", arXiv 2211.17192.
 *
 * EAGLE-3 (arXiv 2503.01840; the tree after EAGLE-2, arXiv 2406.16858): one layer whose rows
 * begin with states of the model and see the tokens that were drafted before them:
 * model/headfile.h.
 *
 * Medusa (arXiv 2401.10774), DFlash (arXiv 2602.06036) and DSpark (arXiv 2607.05147) say all
 * places of a draft at once: engine/net_block.c. The best nodes by what they say make the tree. */
#include "drafters/grown.h"

#define GROWN(label)                                                                               \
    {                                                                                              \
        .name = (label), .state_size = sizeof(ftk_grown), .rates_size = sizeof(ftk_grown_known),   \
        .rates_init = ftk_grown_init_known,                                                        \
        .wants = FTK_WANT_PASSES | FTK_WANT_SUCCESSORS | FTK_WANT_MODEL, .init = ftk_grown_init,   \
        .propose = ftk_grown_propose, .propose_all = ftk_grown_propose_all,                        \
        .learn = ftk_grown_learn, .reset = ftk_grown_reset, .free = ftk_grown_free,                \
    }

const ftk_drafter_ops ftk_drafter_draft_model = GROWN("draft-model");
const ftk_drafter_ops ftk_drafter_eagle3 = GROWN("eagle3");
const ftk_drafter_ops ftk_drafter_medusa = GROWN("medusa");
const ftk_drafter_ops ftk_drafter_dflash = GROWN("dflash");
const ftk_drafter_ops ftk_drafter_dspark = GROWN("dspark");
