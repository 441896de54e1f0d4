/* SPDX-License-Identifier: Apache-2.0
 * The page at /. Its files are built in; nothing of it comes from elsewhere, and browsers are
 * told to hold it to that. */
#include "page_files.h"
#include "serve/http.h"

static enum MHD_Result send_file(const serve_call *c, const char *type, const unsigned char *p,
                                 size_t n)
{
    struct MHD_Response *const r =
        MHD_create_response_from_buffer(n, (void *)(uintptr_t)p, MHD_RESPMEM_PERSISTENT);
    if (!r) return MHD_NO;
    MHD_add_response_header(r, "Content-Type", type);
    MHD_add_response_header(
        r, "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'");
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(r, "Referrer-Policy", "no-referrer");
    MHD_add_response_header(r, "Cache-Control", "no-cache");
    const enum MHD_Result done = MHD_queue_response(c->connection, MHD_HTTP_OK, r);
    MHD_destroy_response(r);
    return done;
}

enum MHD_Result serve_send_page(const serve_call *c)
{
    return send_file(c, "text/html; charset=utf-8", page_html, sizeof page_html);
}

enum MHD_Result serve_send_page_script(const serve_call *c)
{
    return send_file(c, "text/javascript; charset=utf-8", page_js, sizeof page_js);
}

enum MHD_Result serve_send_page_style(const serve_call *c)
{
    return send_file(c, "text/css; charset=utf-8", page_css, sizeof page_css);
}
