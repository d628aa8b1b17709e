/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Handlers on fibers that read and write bodies as streams, chosen by the path:
 *
 *      /stream/sink       takes the whole body as fast as it comes, and answers how many bytes it was
 *      /stream/small      the same, for at most 1000 bytes
 *      /stream/slow       the same, with a pause of 100 ms before every 16 KiB
 *      /stream/hold       the same, once streams_release() was called
 *      /stream/refuse     answers 403 without reading
 *      /download/N        answers N bytes, announced; /download/N/chunked: without announcing them
 *      /download/N/short  announces N bytes and ends before the last; /download/N/abort: gives up before it */

#include "web-fixture.h"

Streams *streams_new(sd_event *event, Fixture *fixture);
void streams_free(Streams *streams);
bool streams_on_head(HttpRequest *request, uint64_t *max_body);
/* True if it was a stream. */
bool streams_on_request(Streams *streams, HttpRequest *request);
void streams_on_abort(Streams *streams, HttpRequest *request);
void streams_release(Fixture *fixture, void *argument);

/* The byte at this place of a download. */
static inline uint8_t stream_byte(uint64_t at) {
        return (uint8_t) (at ^ at >> 8 ^ at >> 16);
}
/* Of bytes and their order; `at`: of the first. */
uint32_t stream_sum(uint32_t sum, const void *data, size_t size);
