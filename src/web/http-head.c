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
        [HTTP_TRANSFER_ENCODING] = {"transfer-encoding", true},
        [HTTP_USER_AGENT] = {"user-agent", false},
        [HTTP_WEBSOCKET_KEY] = {"sec-websocket-key", true},
        [HTTP_WEBSOCKET_PROTOCOL] = {"sec-websocket-protocol", false},
        [HTTP_WEBSOCKET_VERSION] = {"sec-websocket-version", true},
        [HTTP_FORWARDED_FOR] = {"x-forwarded-for", false},
        [HTTP_REQUEST_ID] = {"x-request-id", false},
};

/* What is learned from headers whose value is a list of words, over all their lines. */
typedef struct Words {
        bool close, upgrade, websocket, unknown_expectation;
} Words;

int http_header_from_name(const char *name) {
        for (int i = 0; i < _HTTP_HEADER_ID_MAX; i++)
                if (streq(known_headers[i].name, name))
                        return i;
        return -1;
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

/* What a handler may be asked for. CONNECT and TRACE are none of these. */
static bool verb_is_known(const char *verb) {
        static const char *const verbs[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};

        FOREACH_ARRAY(known, verbs, ELEMENTSOF(verbs))
                if (streq(*known, verb))
                        return true;
        return false;
}

/* RFC 9110 section 2.5: a higher minor version is served as the highest that is known. */
static int parse_version(HttpHead *head, const char *version, Sc__ErrorCode *ret_error) {
        if (strlen(version) != 8 || !startswith(version, "HTTP/") || !isdigit((unsigned char) version[5]) ||
                version[6] != '.' || !isdigit((unsigned char) version[7]))
                return -EBADMSG;
        if (version[5] != '1') {
                *ret_error = SC__ERROR_CODE__ERROR_HTTP_VERSION_NOT_SUPPORTED;
                return -EBADMSG;
        }
        head->http_1_1 = version[7] != '0';
        return 0;
}

static int parse_target(HttpHead *head, char *data, char *target, Sc__ErrorCode *ret_error) {
        HttpTarget parts;

        if (strlen(target) > HTTP_TARGET_MAX) {
                *ret_error = SC__ERROR_CODE__ERROR_URI_TOO_LONG;
                return -EBADMSG;
        }
        int r = http_target_parse(target, data + head->verb, &parts);
        if (r < 0)
                return r;
        head->path = (uint32_t) (parts.path - data);
        head->query = parts.query ? (uint32_t) (parts.query - data) : 0;
        head->authority = parts.authority ? (uint32_t) (parts.authority - data) : 0;
        return 0;
}

/* "GET /path?query HTTP/1.1", NUL-terminated. */
static int parse_request_line(HttpHead *head, char *data, char *line, Sc__ErrorCode *ret_error) {
        char *target = strchr(line, ' '), *version = target ? strchr(target + 1, ' ') : NULL;

        if (!version || !is_token(line, (size_t) (target - line)))
                return -EBADMSG;
        *target++ = '\0';
        *version++ = '\0';
        int r = parse_version(head, version, ret_error);
        if (r < 0)
                return r;
        head->verb = (uint32_t) (line - data);
        if (!verb_is_known(line)) {
                *ret_error = SC__ERROR_CODE__ERROR_NOT_IMPLEMENTED;
                return -EBADMSG;
        }
        return parse_target(head, data, target, ret_error);
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
                        words->unknown_expectation = true;
                else
                        head->expect_continue = true;
        } else if ((id = http_header_from_name(name)) >= 0) {
                if (head->headers[id] > 0 && known_headers[id].once)
                        return -EBADMSG;
                head->headers[id] = (uint32_t) (value - data);
        }
        return 0;
}

/* Only "chunked" is understood (RFC 9112 sections 6.1 and 6.3). */
static int check_transfer_encoding(HttpHead *head, const char *value, Sc__ErrorCode *ret_error) {
        const char *last = strrchr(value, ',');

        /* With both, or from HTTP/1.0, it is not clear where the body ends. */
        if (!head->http_1_1 || head->headers[HTTP_CONTENT_LENGTH] > 0)
                return -EBADMSG;
        head->chunked = strcasecmp(value, "chunked") == 0;
        if (head->chunked)
                return 0;
        if (last && strcasecmp(last + 1 + strspn(last + 1, " \t"), "chunked") == 0 &&
                !strcasestr(value, "chunked,") && !strcasestr(value, "chunked "))
                *ret_error = SC__ERROR_CODE__ERROR_NOT_IMPLEMENTED;
        return -EBADMSG;
}

static int check_content_length(HttpHead *head, const char *value) {
        size_t n = strspn(value, "0123456789");

        if (n == 0 || n > 18 || value[n])
                return -EBADMSG;
        head->content_length = strtoull(value, NULL, 10);
        return 0;
}

/* The host that is meant is that of an absolute target (RFC 9112 section 3.2.2), but the header has to be
 * there and valid all the same. */
static int check_host(HttpHead *head, const char *data) {
        uint32_t host = head->headers[HTTP_HOST];

        if (host == 0 ? head->http_1_1 : !http_authority_is_valid(data + host))
                return -EBADMSG;
        if (head->authority > 0)
                head->headers[HTTP_HOST] = head->authority;
        return 0;
}

/* What the headers mean together. */
static int check_headers(HttpHead *head, const char *data, const Words *words, Sc__ErrorCode *ret_error) {
        int r = check_host(head, data);

        if (r >= 0 && head->headers[HTTP_TRANSFER_ENCODING] > 0)
                r = check_transfer_encoding(head, data + head->headers[HTTP_TRANSFER_ENCODING], ret_error);
        if (r >= 0 && head->headers[HTTP_CONTENT_LENGTH] > 0)
                r = check_content_length(head, data + head->headers[HTTP_CONTENT_LENGTH]);
        if (r < 0)
                return r;
        if (words->unknown_expectation && head->http_1_1) {
                *ret_error = SC__ERROR_CODE__ERROR_EXPECTATION_FAILED;
                return -EBADMSG;
        }
        head->expect_continue = head->expect_continue && head->http_1_1;
        head->upgrade_websocket = words->upgrade && words->websocket && head->http_1_1;
        /* HTTP/1.0 is answered and closed, whatever it asks for. */
        head->keep_alive = head->http_1_1 && !words->close;
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
