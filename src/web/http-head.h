/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The head of an HTTP/1.1 request, parsed strictly: request line and headers (RFC 9112). Whatever two
 * parsers could read differently is refused, since that is what request smuggling lives on: bare CR or LF,
 * folded lines, white space around a name, control characters, two message lengths, two of a header that may
 * stand once. */

#include <stdbool.h>

#include "proto/schema.h"
#include "util/macro.h"
#include "web/http-target.h"

/* Bytes of a request target: OWASP ASVS asks for a limit; common servers have 2 to 8 KiB. */
#define HTTP_TARGET_MAX 4096U
/* Headers of a request. */
#define HTTP_HEADERS_MAX 100U
/* Bytes of line and headers; WebLimits may set less. */
#define HTTP_HEAD_MAX (16U * 1024U)

/* The headers that are kept; all others are checked and forgotten. */
typedef enum HttpHeaderId {
        HTTP_ACCEPT,
        HTTP_AUTHORIZATION,
        HTTP_CONTENT_LENGTH,
        HTTP_CONTENT_TYPE,
        HTTP_CORS_REQUEST_HEADERS,
        HTTP_CORS_REQUEST_METHOD,
        HTTP_HOST,
        HTTP_IF_NONE_MATCH,
        HTTP_ORIGIN,
        HTTP_TRACEPARENT,
        HTTP_TRANSFER_ENCODING,
        HTTP_USER_AGENT,
        HTTP_WEBSOCKET_KEY,
        HTTP_WEBSOCKET_PROTOCOL,
        HTTP_WEBSOCKET_VERSION,
        HTTP_FORWARDED_FOR,
        HTTP_REQUEST_ID,
        _HTTP_HEADER_ID_MAX,
} HttpHeaderId;

/* Zero it before the first call for a request. Offsets count from the beginning of the data, which may move
 * between calls; what they point to is NUL-terminated in place. 0: absent. */
typedef struct HttpHead {
        uint32_t size; /* with the empty line */
        uint32_t verb, path, query; /* as in HttpTarget */
        uint32_t authority; /* of an absolute target, and then it stands as HTTP_HOST, too; 0: of another */
        uint32_t headers[_HTTP_HEADER_ID_MAX];
        uint64_t content_length;
        bool http_1_1, chunked, keep_alive, upgrade_websocket, expect_continue;

        /* the search for the end */
        uint32_t begin, headers_begin, line, scanned;
        unsigned n_lines;
} HttpHead;

/* 1: the head is complete and `head` filled in; 0: more is needed; -EBADMSG: refused with *ret_error. `max`
 * bounds line and headers. */
int http_head_parse(HttpHead *head, char *data, size_t size, size_t max, Sc__ErrorCode *ret_error);

/* Its id, or -1 for one that is not kept. */
int http_header_from_name(const char *name);
