/* SPDX-License-Identifier: Apache-2.0
 * Samples to files. */
#include "picture.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#ifdef FTK_HAVE_PNG
#include <png.h>
#endif

#include "bytes.h"
#include "common.h"
#include "npy.h"

static FILE *begin(const char *path)
{
    return strcmp(path, "-") == 0 ? stdout : fopen(path, "wb");
}

/* Closes f, which is NULL where it could not be opened; false, after a line, where not all could be
 * written: of a file nothing is left then. A reader of standard output may leave. */
static bool finish(FILE *f, const char *path, bool written)
{
    const bool out = f == stdout;
    int trouble = written ? 0 : errno ? errno : EIO;
    if (f && (out ? fflush(f) : fclose(f)) != 0 && !trouble) trouble = errno;
    if (!trouble || (out && trouble == EPIPE)) return true;
    struct stat st;
    if (f && !out && lstat(path, &st) == 0 && S_ISREG(st.st_mode)) remove(path);
    cli_say("cannot write %s: %s", out ? "to standard output" : path, strerror(trouble));
    return false;
}

#ifdef FTK_HAVE_PNG
/* -1..1 to 0..255. */
static unsigned char shade(float v)
{
    const float at = rintf((v + 1) * 127.5f);
    return at > 0 ? at < 255 ? (unsigned char)at : 255 : 0;
}

static void draw(const cli_pictures *p, int i, size_t width, unsigned char *to)
{
    const size_t side = (size_t)p->side, channels = (size_t)p->channels;
    const float *const x = p->x + (size_t)i * channels * side * side;
    for (size_t row = 0; row < side * (size_t)p->scale; row++) {
        for (size_t column = 0; column < side * (size_t)p->scale; column++) {
            const size_t cell = row / (size_t)p->scale * side + column / (size_t)p->scale;
            for (size_t c = 0; c < channels; c++)
                to[(row * width + column) * channels + c] = shade(x[c * side * side + cell]);
        }
    }
}

bool cli_save_png(const cli_pictures *p, const char *path)
{
    const size_t step = (size_t)p->side * (size_t)p->scale + CLI_GAP;
    const size_t columns = (size_t)p->columns, rows = ((size_t)p->n + columns - 1) / columns;
    const size_t width = columns * step - CLI_GAP, height = rows * step - CLI_GAP;
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)width,
                       .height = (png_uint_32)height,
                       .format = p->channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB};
    unsigned char *const pixels = cli_array(NULL, width * height, (size_t)p->channels);
    memset(pixels, 255, width * height * (size_t)p->channels);
    for (int i = 0; i < p->n; i++) {
        const size_t at = (size_t)i / columns * step * width + (size_t)i % columns * step;
        draw(p, i, width, pixels + at * (size_t)p->channels);
    }
    png_alloc_size_t n = 0;
    void *file = NULL;
    bool ok = png_image_write_get_memory_size(image, n, 0, pixels, 0, NULL);
    if (ok) file = cli_array(NULL, n, 1);
    ok = ok && png_image_write_to_memory(&image, file, &n, 0, pixels, 0, NULL);
    if (!ok) cli_say("cannot make a PNG of %zu x %zu pixels: %s", width, height, image.message);
    if (ok) {
        FILE *f = begin(path);
        ok = finish(f, path, f && fwrite(file, 1, n, f) == n);
    }
    free(file);
    free(pixels);
    return ok;
}
#else
bool cli_save_png(const cli_pictures *p, const char *path)
{
    (void)p;
    cli_say("cannot write %s: this build writes no PNG; install libpng-dev and build again, or "
            "write the numbers with --npy",
            path);
    return false;
}
#endif

bool cli_save_npy(const cli_pictures *p, const char *path)
{
    const int dims[4] = {p->n, p->channels, p->side, p->side};
    FILE *f = begin(path);
    return finish(f, path, f && cli_npy_write(f, p->x, dims));
}
