/* SPDX-License-Identifier: Apache-2.0
 * Parts of foretoken inspect. */
#ifndef FTK_CLI_INSPECT_H
#define FTK_CLI_INSPECT_H

#include "common.h"

/* Of a folder with safetensors, or of such a file. Returns an exit status. */
int inspect_checkpoint(const cli_options *o);

#endif
