/* SPDX-License-Identifier: Apache-2.0 */
/* The head of an HTTP request, at once and byte by byte: both ways must come to the same result, and what is
 * accepted must keep the promises of the header. */
#include <stdbool.h>

#include "util/string-util.h"
#include "web/http-head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int parse_bytewise(HttpHead *head, char *data, size_t size, Sc__ErrorCode *code) {
        int r = 0;

        for (size_t n = 1; r == 0 && n <= size; n++)
                r = http_head_parse(head, data, n, HTTP_HEAD_MAX, code);
        return r;
}

static void check_text(const char *data, uint32_t offset, size_t head_size) {
        assert_se(offset < head_size);
        assert_se(memchr(data + offset, '\0', head_size - offset));
}

/* Each segment can be decoded, and is no way up. */
static void check_path(const char *path) {
        _cleanup_free_ char *copy = strdup(path);
        char *rest = copy, *segment;

        assert_se(*path == '/' || streq(path, "*"));
        while ((segment = strsep(&rest, "/"))) {
                assert_se(http_percent_decode(segment, false) >= 0);
                assert_se(!streq(segment, ".") && !streq(segment, ".."));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *whole = malloc(size ?: 1), *bytewise = malloc(size ?: 1);
        Sc__ErrorCode whole_code = SC__ERROR_CODE__ERROR_NONE, bytewise_code = SC__ERROR_CODE__ERROR_NONE;
        HttpHead head = {}, other = {};
        int r;

        memcpy(whole, data, size);
        memcpy(bytewise, data, size);
        r = http_head_parse(&head, whole, size, HTTP_HEAD_MAX, &whole_code);
        assert_se(r == parse_bytewise(&other, bytewise, size, &bytewise_code));
        if (r < 0)
                assert_se(whole_code != SC__ERROR_CODE__ERROR_NONE &&
                          bytewise_code != SC__ERROR_CODE__ERROR_NONE);
        if (r <= 0)
                return 0;

        assert_se(head.size == other.size && head.size <= size && head.size <= HTTP_HEAD_MAX);
        assert_se(memcmp(whole, bytewise, head.size) == 0);
        assert_se(head.content_length == other.content_length && head.keep_alive == other.keep_alive &&
                  head.chunked == other.chunked && head.upgrade_websocket == other.upgrade_websocket);
        check_text(whole, head.verb, head.size);
        check_text(whole, head.path, head.size);
        assert_se(utf8_is_valid(whole + head.path, strlen(whole + head.path)));
        if (head.query > 0)
                check_text(whole, head.query, head.size);
        FOREACH_ARRAY(header, head.headers, ELEMENTSOF(head.headers))
                if (*header > 0)
                        check_text(whole, *header, head.size);
        assert_se(head.chunked == (head.headers[HTTP_TRANSFER_ENCODING] > 0));
        assert_se(!head.chunked || (head.http_1_1 && head.headers[HTTP_CONTENT_LENGTH] == 0));
        if (head.authority > 0)
                check_text(whole, head.authority, head.size);
        check_path(whole + head.path);
        assert_se(head.headers[HTTP_CONTENT_LENGTH] > 0 || head.content_length == 0);
        return 0;
}
