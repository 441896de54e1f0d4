/* SPDX-License-Identifier: Apache-2.0
 * What the two files of filters share. */
#ifndef FTK_TEMPLATE_FILTERS_H
#define FTK_TEMPLATE_FILTERS_H

#include "template/parts.h"

#define FILTER(name)                                                                               \
    static ftk_tmpl_value name(ftk_tmpl_run *r, ftk_tmpl_value v, const ftk_tmpl_value *p,         \
                               const ftk_tmpl_args *args)

/* The filters of sequences; NULL if there is none of that name. */
const ftk_tmpl_function *ftk_tmpl_list_filter(const ftk_tmpl_str *name);

#endif
