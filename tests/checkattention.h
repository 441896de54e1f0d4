/* SPDX-License-Identifier: Apache-2.0
 * What checkkernels asks of attention over trees. */
#ifndef FTK_TESTS_CHECKATTENTION_H
#define FTK_TESTS_CHECKATTENTION_H

#include "kernelcases.h"

void check_attention(check *c);

#endif
