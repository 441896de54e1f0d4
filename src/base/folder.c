/* SPDX-License-Identifier: Apache-2.0
 * Names of files in a folder. */
#include "folder.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

bool ftk_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool ftk_ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n > m && strcmp(s + n - m, end) == 0;
}

bool ftk_folder_next(const char *folder, const char *after, const char *end, char *name, size_t cap)
{
    DIR *dir = opendir(folder);
    if (!dir) return false;
    bool found = false;
    for (const struct dirent *f; (f = readdir(dir));) {
        if (!ftk_ends_with(f->d_name, end) || strlen(f->d_name) >= cap) continue;
        if (strcmp(f->d_name, after) > 0 && (!found || strcmp(f->d_name, name) < 0)) {
            strcpy(name, f->d_name);
            found = true;
        }
    }
    closedir(dir);
    return found;
}
