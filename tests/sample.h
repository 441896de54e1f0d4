/* SPDX-License-Identifier: Apache-2.0
 * Test programs on the emulated device, which take a minute or two: with --sample the first group
 * of their tests alone. */
#ifndef FTK_TESTS_SAMPLE_H
#define FTK_TESTS_SAMPLE_H

#include "support.h"

#define RUN_SAMPLE(argc, argv, sample, rest)                                                       \
    (cmocka_run_group_tests(sample, NULL, NULL) +                                                  \
     ((argc) > 1 && strcmp((argv)[1], "--sample") == 0                                             \
          ? 0                                                                                      \
          : cmocka_run_group_tests(rest, NULL, NULL)))

#endif
