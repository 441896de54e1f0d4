/* SPDX-License-Identifier: Apache-2.0
 * Writes a tiny model with a byte-pair vocabulary, for the command-line tests: bpemodel FILE */
#include "ggufwriter.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    static gw_bpe v;
    gw w;
    gw_init(&w);
    gw_tiny_bpe(&v);
    gw_put_bpe(&w, &v);
    gw_str(&w, "tokenizer.chat_template", "{{ '<|im_start|>' + role }}");
    gw_tiny_body(&w);
    const gw_bytes file = gw_finish(&w);
    gw_free(&w);
    const bool saved = gw_save(argv[1], file.p, file.n);
    if (!saved) printf("%s cannot be written\n", argv[1]);
    free(file.p);
    return !saved;
}
