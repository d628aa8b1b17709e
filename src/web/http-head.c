/* SPDX-License-Identifier: Apache-2.0 */
#include "web/http-head.h"

#include <ctype.h>
#include <strings.h>

#include "util/string-util.h"

static const struct {
        const char *name;
        bool once; /* two of them are refused; of others the last one counts */
} known_headers[_HTTP_HEADER_ID_MAX] = {
        [HTTP_ACCEPT] = {"accept", false},
        [HTTP_AUTHORIZATION] = {"authorization", true},
        [HTTP_CONTENT_LENGTH] = {"content-length", true},
        [HTTP_CONTENT_TYPE] = {"content-type", true},
        [HTTP_CORS_REQUEST_HEADERS] = {"access-control-request-headers", false},
        [HTTP_CORS_REQUEST_METHOD] = {"access-control-request-method", true},
        [HTTP_HOST] = {"host", true},
        [HTTP_IF_NONE_MATCH] = {"if-none-match", false},
        [HTTP_ORIGIN] = {"origin", true},
        [HTTP_TRACEPARENT] = {"traceparent", false},
        [HTTP_TRANSFER_ENCODING] = {"transfer-encoding", false},
        [HTTP_USER_AGENT] = {"user-agent", false},
        [HTTP_WEBSOCKET_KEY] = {"sec-websocket-key", true},
        [HTTP_WEBSOCKET_PROTOCOL] = {"sec-websocket-protocol", false},
        [HTTP_WEBSOCKET_VERSION] = {"sec-websocket-version", true},
        [HTTP_FORWARDED_FOR] = {"x-forwarded-for", false},
        [HTTP_REQUEST_ID] = {"x-request-id", false},
};

/* What is learned from headers whose value is a list of words, over all their lines. */
typedef struct Words {
        bool close, keep_alive, upgrade, websocket;
} Words;

int http_header_from_name(const char *name) {
        for (int i = 0; i < _HTTP_HEADER_ID_MAX; i++)
                if (streq(known_headers[i].name, name))
                        return i;
        return -1;
}

static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int http_percent_decode(char *s, bool plus) {
        char *out = s;

        for (const char *in = s; *in; in++) {
                int c = (unsigned char) *in;

                if (c == '%') {
                        int high = hex_digit(in[1]), low = high < 0 ? -1 : hex_digit(in[2]);
                        if (low < 0)
                                return -EINVAL;
                        c = high << 4 | low;
                        in += 2;
                } else if (c == '+' && plus)
                        c = ' ';
                if (c < 0x20 || c == 0x7f)
                        return -EINVAL;
                *out++ = (char) c;
        }
        *out = '\0';
        return utf8_is_valid(s, (size_t) (out - s)) ? (int) (out - s) : -EINVAL;
}

/* tchar of RFC 9110 section 5.6.2 */
static bool is_token(const char *s, size_t size) {
        for (size_t i = 0; i < size; i++)
                if (!isalnum((unsigned char) s[i]) && (!s[i] || !strchr("!#$%&'*+-.^_`|~", s[i])))
                        return false;
        return size > 0;
}

/* Finds the empty line. Every LF must follow a CR. The result does not depend on how the bytes arrive. */
static int find_end(HttpHead *head, const char *data, size_t size, size_t max, Sc__ErrorCode *ret_error) {
        size_t line_max = MIN(max, HTTP_TARGET_MAX + 64), first_line;
        const char *lf;

        while ((lf = memchr(data + head->scanned, '\n', size - head->scanned))) {
                uint32_t at = (uint32_t) (lf - data);

                head->scanned = at + 1;
                if (at == head->line || data[at - 1] != '\r') {
                        *ret_error = SC__ERROR_CODE__ERROR_MALFORMED_REQUEST;
                        return -EBADMSG;
                }
                if (at - 1 > head->line) {
                        if (head->n_lines++ == 0)
                                head->headers_begin = at + 1;
                } else if (head->n_lines > 0) {
                        head->size = at + 1;
                        break;
                } else /* RFC 9112 2.2: empty lines before the request line are skipped */
                        head->begin = at + 1;
                head->line = at + 1;
        }
        if (head->size == 0)
                head->scanned = (uint32_t) size;

        first_line = (head->n_lines > 0 ? head->headers_begin : size) - head->begin;
        if (first_line > line_max) {
                *ret_error = SC__ERROR_CODE__ERROR_URI_TOO_LONG;
                return -EBADMSG;
        }
        if ((head->size > 0 ? head->size : size) > max || head->n_lines > HTTP_HEADERS_MAX + 1) {
                *ret_error = SC__ERROR_CODE__ERROR_HEADERS_TOO_LARGE;
                return -EBADMSG;
        }
        return head->size > 0;
}

/* No segment may be "." or "..", so that what uses the path need not check for them. */
static bool path_has_dots(const char *path) {
        for (const char *s = path; s; s = strchr(s, '/')) {
                if (*s == '/')
                        s++;
                size_t n = strcspn(s, "/");
                if ((n == 1 || n == 2) && strspn(s, ".") >= n)
                        return true;
        }
        return false;
}

static int parse_target(HttpHead *head, char *data, char *target) {
        char *query = strchr(target, '?');

        for (const char *s = target; *s; s++)
                if ((unsigned char) *s <= 0x20 || (unsigned char) *s >= 0x7f || *s == '#')
                        return -EBADMSG;
        if (query) {
                *query++ = '\0';
                head->query = (uint32_t) (query - data);
        }
        head->path = (uint32_t) (target - data);
        if (streq(target, "*"))
                return streq(data + head->verb, "OPTIONS") ? 0 : -EBADMSG;
        if (*target != '/' || http_percent_decode(target, false) < 0 || path_has_dots(target))
                return -EBADMSG;
        return 0;
}

/* "GET /path?query HTTP/1.1", NUL-terminated. */
static int parse_request_line(HttpHead *head, char *data, char *line, Sc__ErrorCode *ret_error) {
        char *target = strchr(line, ' '), *version = target ? strchr(target + 1, ' ') : NULL;

        if (!version || !is_token(line, (size_t) (target - line)))
                return -EBADMSG;
        *target++ = '\0';
        *version++ = '\0';
        if (!streq(version, "HTTP/1.1") && !streq(version, "HTTP/1.0"))
                return -EBADMSG;
        head->keep_alive = version[7] == '1';
        head->verb = (uint32_t) (line - data);
        if (strlen(target) > HTTP_TARGET_MAX) {
                *ret_error = SC__ERROR_CODE__ERROR_URI_TOO_LONG;
                return -EBADMSG;
        }
        return parse_target(head, data, target);
}

static bool value_is_valid(const char *value, size_t size) {
        for (size_t i = 0; i < size; i++) {
                unsigned char c = (unsigned char) value[i];
                if ((c < 0x20 && c != '\t') || c == 0x7f)
                        return false;
        }
        return true;
}

static bool word_is(const char *word, size_t size, const char *s) {
        return strlen(s) == size && strncasecmp(word, s, size) == 0;
}

static void parse_words(const char *name, const char *value, Words *words) {
        while (*value) {
                size_t n;

                value += strspn(value, ", \t");
                n = strcspn(value, ", \t");
                if (streq(name, "upgrade"))
                        words->websocket |= word_is(value, n, "websocket");
                else {
                        words->close |= word_is(value, n, "close");
                        words->keep_alive |= word_is(value, n, "keep-alive");
                        words->upgrade |= word_is(value, n, "upgrade");
                }
                value += n;
        }
}

static int parse_header(HttpHead *head, char *data, char *line, size_t size, Words *words) {
        char *name = line, *colon = memchr(line, ':', size), *value, *end = line + size;
        int id;

        /* A folded line begins with white space, which is no token character, and so is refused here too. */
        if (!colon || !is_token(name, (size_t) (colon - name)))
                return -EBADMSG;
        *colon = '\0';
        for (char *s = name; *s; s++)
                *s = (char) tolower((unsigned char) *s);

        value = colon + 1;
        while (value < end && (*value == ' ' || *value == '\t'))
                value++;
        while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
                end--;
        if (!value_is_valid(value, (size_t) (end - value)))
                return -EBADMSG;
        *end = '\0';

        if (streq(name, "connection") || streq(name, "upgrade"))
                parse_words(name, value, words);
        else if (streq(name, "expect")) {
                if (strcasecmp(value, "100-continue") != 0)
                        return -EBADMSG;
                head->expect_continue = true;
        } else if ((id = http_header_from_name(name)) >= 0) {
                if (head->headers[id] > 0 && known_headers[id].once)
                        return -EBADMSG;
                head->headers[id] = (uint32_t) (value - data);
        }
        return 0;
}

/* What the headers mean together. */
static int check_headers(HttpHead *head, const char *data, const Words *words, Sc__ErrorCode *ret_error) {
        const char *length = data + head->headers[HTTP_CONTENT_LENGTH];
        const char *host = data + head->headers[HTTP_HOST];

        if (head->headers[HTTP_HOST] > 0 ? !*host || strpbrk(host, " \t/\\@?#,") : head->keep_alive)
                return -EBADMSG;
        if (head->headers[HTTP_TRANSFER_ENCODING] > 0) {
                if (head->headers[HTTP_CONTENT_LENGTH] == 0)
                        *ret_error = SC__ERROR_CODE__ERROR_LENGTH_REQUIRED;
                return -EBADMSG;
        }
        if (head->headers[HTTP_CONTENT_LENGTH] > 0) {
                size_t n = strspn(length, "0123456789");
                if (n == 0 || n > 18 || length[n])
                        return -EBADMSG;
                head->content_length = strtoull(length, NULL, 10);
        }

        head->upgrade_websocket = words->upgrade && words->websocket && head->keep_alive;
        /* HTTP/1.0 is answered and closed, whatever it asks for. */
        head->keep_alive = head->keep_alive && !words->close;
        return 0;
}

int http_head_parse(HttpHead *head, char *data, size_t size, size_t max, Sc__ErrorCode *ret_error) {
        Words words = {};
        char *line, *end;
        int r;

        assert_se(size <= UINT32_MAX);
        r = find_end(head, data, size, max, ret_error);
        if (r <= 0)
                return r;

        *ret_error = SC__ERROR_CODE__ERROR_MALFORMED_REQUEST;
        line = data + head->begin;
        end = memchr(line, '\n', head->size - head->begin);
        if (memchr(line, '\0', (size_t) (end - line)))
                return -EBADMSG;
        end[-1] = '\0';
        r = parse_request_line(head, data, line, ret_error);

        for (line = end + 1; r >= 0 && line < data + head->size - 2; line = end + 1) {
                end = memchr(line, '\n', head->size - (size_t) (line - data));
                r = parse_header(head, data, line, (size_t) (end - 1 - line), &words);
        }
        if (r >= 0)
                r = check_headers(head, data, &words, ret_error);
        return r < 0 ? r : 1;
}
