/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The answers of the REST surface. Each of them ends and frees the request. */

#include "api/rest/request.h"
#include "util/bytes.h"

void rest_answer(RestRequest *request, unsigned status, const char *content_type, const HttpHeader *headers,
        size_t n_headers, const void *body, size_t size);
/* The same for a body that is never freed, and for one that is taken over. */
void rest_answer_static(RestRequest *request, unsigned status, const char *content_type,
        const HttpHeader *headers, size_t n_headers, const void *body, size_t size);
void rest_answer_buffer(RestRequest *request, unsigned status, const char *content_type,
        const HttpHeader *headers, size_t n_headers, Buffer *body);
/* allow: the value of the Allow header, or NULL. */
void rest_answer_problem(RestRequest *request, Sc__ErrorCode code, const char *detail, const char *allow);
/* OPTIONS on a path that knows these verbs. */
void rest_answer_options(RestRequest *request, const char *allow);
/* Frees without an answer: the client has gone. */
void rest_request_end(RestRequest *request);

/* Appends a problem document; trace may be NULL. */
int rest_write_problem(Buffer *out, Sc__ErrorCode code, const char *detail, const Trace *trace);
