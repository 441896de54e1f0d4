/* SPDX-License-Identifier: Apache-2.0
 * Names of files in a folder. */
#ifndef FTK_FOLDER_H
#define FTK_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

bool ftk_is_folder(const char *path);
/* Whether it ends so, and is longer than that. */
bool ftk_ends_with(const char *s, const char *end);
/* The first name by the alphabet, not by the folder's order, that comes behind `after` and ends so;
 * false: there is none that fits into name[cap], or no such folder. */
bool ftk_folder_next(const char *folder, const char *after, const char *end, char *name,
                     size_t cap);

#endif
