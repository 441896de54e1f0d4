/* SPDX-License-Identifier: Apache-2.0
 * All verifiers. */
#include <stddef.h>

#include "verifiers/verifier.h"

const ftk_verifier_ops *const ftk_verifier_list[] = {&ftk_verifier_exact, &ftk_verifier_reject,
                                                     &ftk_verifier_traversal, &ftk_verifier_typical,
                                                     NULL};
