/* SPDX-License-Identifier: Apache-2.0
 * Writes a tiny model with a byte-pair vocabulary, for the command-line tests: bpemodel FILE [TYPE]
 * TYPE: the number of the first layer's attn_q, of which there are zeros in that case. */
#include "testkit/ggufwriter.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc != 2 && argc != 3) return 2;
    static gw_bpe v;
    gw w;
    gw_init(&w);
    gw_tiny_bpe(&v);
    gw_put_bpe(&w, &v);
    gw_str(&w, "tokenizer.chat_template",
           "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}{% endfor %}");
    static const char odd[] = "blk.0.attn_q.weight";
    w.skip = argc == 3 ? odd : NULL;
    gw_tiny_body(&w);
    w.skip = NULL;
    if (argc == 3)
        gw_tensor(&w, odd, 2, (uint64_t[]){GW_EMBD, GW_EMBD}, (uint32_t)strtoul(argv[2], NULL, 10),
                  NULL, (size_t)GW_EMBD * GW_EMBD * 4);
    const gw_bytes file = gw_finish(&w);
    gw_free(&w);
    const bool saved = gw_save(argv[1], file.p, file.n);
    if (!saved) printf("%s cannot be written\n", argv[1]);
    free(file.p);
    return !saved;
}
