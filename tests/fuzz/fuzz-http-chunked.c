/* SPDX-License-Identifier: Apache-2.0 */
/* A chunked body, at once, byte by byte, and with little room for what it carries: all ways must come to the same
 * result. */
#include "web/http-chunked.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* How many bytes were taken; negative: refused. */
static ssize_t decode(
        const uint8_t *data, size_t size, size_t at_once, size_t room, HttpChunked *chunked, Buffer *out) {
        size_t at = 0;

        while (at < size && chunked->state != HTTP_CHUNK_DONE) {
                size_t before = out->size, n = MIN(at_once, size - at);
                ssize_t taken = http_chunked_decode(chunked, (const char *) data + at, n, room, out);
                if (taken < 0)
                        return taken;
                assert_se((size_t) taken <= n && out->size - before <= room);
                assert_se(taken > 0);
                at += (size_t) taken;
        }
        return (ssize_t) at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const struct {
                size_t at_once, room;
        } ways[] = {{SIZE_MAX, SIZE_MAX}, {1, SIZE_MAX}, {SIZE_MAX, 1}, {7, 3}};
        _cleanup_buffer_ Buffer first = {};
        HttpChunked first_chunked = {};
        ssize_t first_taken = 0;

        FOREACH_ARRAY(way, ways, ELEMENTSOF(ways)) {
                _cleanup_buffer_ Buffer out = {};
                HttpChunked chunked = {};
                ssize_t taken = decode(data, size, way->at_once, way->room, &chunked, &out);
                if (way == ways) {
                        first = TAKE_GENERIC(out, (Buffer){});
                        first_chunked = chunked;
                        first_taken = taken;
                        continue;
                }
                assert_se(taken == first_taken);
                if (taken < 0)
                        continue;
                assert_se(chunked.state == first_chunked.state && out.size == first.size);
                assert_se(out.size == 0 || memcmp(out.data, first.data, out.size) == 0);
        }
        assert_se(first_taken < 0 || first.size <= size);
        return 0;
}
