/* SPDX-License-Identifier: Apache-2.0
 * Samples to files. */
#include "picture.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef FTK_HAVE_PNG
#include <png.h>
#endif

#include "bytes.h"
#include "common.h"
#include "npy.h"

#ifdef FTK_HAVE_PNG
static bool save(const void *data, size_t n, const char *path)
{
    if (strcmp(path, "-") == 0) return cli_out(data, n);
    FILE *f = fopen(path, "wb");
    const bool written = f && fwrite(data, 1, n, f) == n;
    const bool closed = f && fclose(f) == 0;
    if (!written || !closed) cli_say("cannot write %s: %s", path, strerror(errno));
    return written && closed;
}

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
    ok = ok && save(file, n, path);
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
    const bool out = strcmp(path, "-") == 0;
    FILE *f = out ? stdout : fopen(path, "wb");
    const int dims[4] = {p->n, p->channels, p->side, p->side};
    const bool written = f && cli_npy_write(f, p->x, dims);
    const bool closed = f && (out ? fflush(f) : fclose(f)) == 0;
    if (!written || !closed)
        cli_say("cannot write %s: %s", out ? "to standard output" : path, strerror(errno));
    return written && closed;
}
