/* SPDX-License-Identifier: Apache-2.0
 * Between http.c, which takes requests in, and paths.c, which answers them. */
#ifndef FTK_SERVE_HTTP_H
#define FTK_SERVE_HTTP_H

#include <microhttpd.h>

#include "serve/serve.h"

/* One request as it comes in. */
typedef struct serve_exchange {
    const struct serve_route *route; /* NULL: error says why not */
    const char *allow;               /* the method that would do */
    cli_bytes body;
    size_t n_skipped; /* of a body that nobody will read */
    bool preflight;   /* a browser asks whether a page may ask */
    serve_error error;
    serve_request *request;
} serve_exchange;

typedef struct serve_call {
    serve_server *s;
    struct MHD_Connection *connection;
    serve_exchange *x;
    const char *id; /* of the path's last part */
} serve_call;

typedef struct serve_route {
    const char *path, *method;
    enum MHD_Result (*run)(const serve_call *c);
    bool open; /* without a key */
    bool more; /* path goes on with a name */
} serve_route;

/* http.c: what libmicrohttpd calls for each piece of a request, and at its end */
enum MHD_Result serve_on_request(void *server, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *data,
                                 size_t *n, void **state);
void serve_on_end(void *server, struct MHD_Connection *connection, void **state,
                  enum MHD_RequestTerminationCode code);

/* Who answers at a path, or NULL. */
const serve_route *serve_route_find(const char *url);
/* The name that such a path goes on with. */
const char *serve_route_name(const serve_route *r, const char *url);

enum MHD_Result serve_send_preflight(const serve_call *c);
enum MHD_Result serve_send_error(const serve_call *c, const serve_error *e);
/* Once the request, of a chat or a completion, is ready. */
enum MHD_Result serve_send_answer(const serve_call *c);

/* page.c */
enum MHD_Result serve_send_page(const serve_call *c);
enum MHD_Result serve_send_page_script(const serve_call *c);
enum MHD_Result serve_send_page_style(const serve_call *c);

#endif
