/* SPDX-License-Identifier: Apache-2.0
 * Pictures through gnuplot. */
#include "gnuplot.h"

#include <stdlib.h>
#include <string.h>

bool gnuplot_there(void)
{
    return system("command -v gnuplot > /dev/null 2>&1") == 0;
}

static bool ends_in(const char *path, const char *end)
{
    const size_t n = strlen(path), k = strlen(end);
    return n >= k && strcmp(path + n - k, end) == 0;
}

bool gnuplot_can_write(const char *path)
{
    return !strpbrk(path, "'\\\n") && (ends_in(path, ".png") || ends_in(path, ".svg"));
}

FILE *gnuplot_open(const char *path, int width, int height)
{
    FILE *f = popen("gnuplot", "w");
    if (!f) return NULL;
    if (ends_in(path, ".svg"))
        fprintf(f, "set terminal svg size %d,%d dynamic background 'white'\n", width, height);
    else
        fprintf(f, "set terminal pngcairo size %d,%d\n", width, height);
    fprintf(f, "set output '%s'\n", path);
    return f;
}

bool gnuplot_close(FILE *f)
{
    return pclose(f) == 0;
}
