/* SPDX-License-Identifier: Apache-2.0 */
#include "web-fixture.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "certificates.h"
#include "stream-handlers.h"
#include "tls-pump.h"
#include "util/fd-util.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define PATIENCE_MSEC 20000 /* no test asserts a time: this only ends one that hangs */

struct Fixture {
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        Seen seen;
        bool ready;

        sd_event *event;
        WebLoop *loop;
        WebServer *server;
        WebLimits limits;
        uint16_t port;
        TlsContext *server_tls, *client_tls; /* NULL: plain */

        int call_fd;
        void (*call)(Fixture *fixture, void *argument);
        void *call_argument;

        Streams *streams;
        HttpRequest *later; /* GET /later waits here for GET /release */
        WebSocket *socket; /* the last one that was opened */
};

const WebLimits fixture_limits = {
        .max_body = 100000,
        .max_headers = 8192,
        .max_message = 65536,
        .max_queue = 100000,
        .stall_timeout_usec = 30 * USEC_PER_SEC,
        .request_timeout_usec = 30 * USEC_PER_SEC,
};

Fixture *fixture_start(void) {
        return fixture_new(&fixture_limits);
}

Fixture *fixture_start_impatient(void) {
        WebLimits limits = fixture_limits;
        limits.request_timeout_usec = 300 * USEC_PER_MSEC;
        return fixture_new(&limits);
}

/* --- handlers --- */

static void seen_change(Fixture *f) {
        pthread_cond_broadcast(&f->changed);
        pthread_mutex_unlock(&f->lock);
}

static void copy(char *out, size_t size, const char *in) {
        snprintf(out, size, "%s", strempty(in));
}

static int on_parameter(const char *name, const char *value, void *userdata) {
        Seen *seen = userdata;
        size_t n = strlen(seen->query);
        snprintf(seen->query + n, sizeof(seen->query) - n, "[%s=%s]", name, value);
        return 0;
}

static void answer(HttpRequest *request, unsigned status, const char *body, size_t size) {
        const HttpHeader headers[] = {{"X-Test", "yes"}, {"X-Bad", "a\r\nInjected: b"}};
        http_respond(request, status, "text/plain", headers, ELEMENTSOF(headers), body, size);
}

static void on_request(HttpRequest *request, void *userdata) {
        Fixture *f = userdata;
        const char *path = http_request_path(request), *body;
        HttpRequest *later;
        size_t size;

        if (streams_on_request(f->streams, request))
                return;
        body = http_request_body(request, &size);
        pthread_mutex_lock(&f->lock);
        f->seen.n_requests++;
        copy(f->seen.verb, sizeof(f->seen.verb), http_request_verb(request));
        copy(f->seen.path, sizeof(f->seen.path), path);
        *f->seen.query = '\0';
        if (http_request_query(request, on_parameter, &f->seen) < 0)
                copy(f->seen.query, sizeof(f->seen.query), "invalid");
        copy(f->seen.authorization, sizeof(f->seen.authorization),
                http_request_header(request, "authorization"));
        copy(f->seen.traceparent, sizeof(f->seen.traceparent), http_request_header(request, "traceparent"));
        copy(f->seen.host, sizeof(f->seen.host), http_request_header(request, "host"));
        copy(f->seen.address, sizeof(f->seen.address), http_request_address(request));
        f->seen.body_size = size;
        snprintf(f->seen.body, sizeof(f->seen.body), "%.*s", (int) MIN(size, (size_t) 255), body);
        seen_change(f);

        if (streq(path, "/later"))
                f->later = request;
        else if (streq(path, "/release")) {
                answer(request, 200, "released", 8);
                later = TAKE_PTR(f->later);
                if (later)
                        answer(later, 200, "at last", 7);
        } else if (streq(path, "/big")) {
                size_t n = 8 * 1024 * 1024;
                _cleanup_free_ char *big = malloc(n);
                memset(big, 'x', n);
                answer(request, 200, big, n);
        } else if (streq(path, "/busy")) {
                http_request_drop_ahead(request);
                answer(request, 503, "no", 2);
        } else if (streq(path, "/empty"))
                answer(request, 204, NULL, 0);
        else
                answer(request, 200, path, strlen(path));
}

static bool on_head(HttpRequest *request, uint64_t *max_body, void *userdata) {
        return streams_on_head(request, max_body);
}

static void on_abort(HttpRequest *request, void *userdata) {
        Fixture *f = userdata;
        streams_on_abort(f->streams, request);
        if (f->later == request)
                f->later = NULL;
        pthread_mutex_lock(&f->lock);
        f->seen.n_aborts++;
        seen_change(f);
}

static void on_refused(Sc__ErrorCode code, Buffer *body, void *userdata) {
        Fixture *f = userdata;
        pthread_mutex_lock(&f->lock);
        f->seen.refused = code;
        seen_change(f);
        buffer_append_string(body, schema_error(code)->name);
}

static bool on_upgrade(const char *origin, const char *host, void *userdata) {
        return !origin || streq(origin, "https://chat.example");
}

static void on_open(WebSocket *socket, void *userdata) {
        Fixture *f = userdata;
        f->socket = socket;
        websocket_set_userdata(socket, f);
        pthread_mutex_lock(&f->lock);
        f->seen.n_opens++;
        copy(f->seen.address, sizeof(f->seen.address), websocket_address(socket));
        seen_change(f);
}

static void send_copy(WebSocket *socket, const char *data, size_t size, bool binary) {
        _cleanup_(bytes_unrefp) Bytes *bytes = bytes_new_copy(data, size);
        if (bytes) /* without memory nothing is said */
                websocket_send(socket, bytes, binary);
}

/* Until so much is queued, or the queue is full. */
static void flood(WebSocket *socket, size_t size) {
        _cleanup_(bytes_unrefp) Bytes *bytes = bytes_new(1000);
        memset(bytes->data, 'f', bytes->size);
        while (websocket_queued(socket) < size && websocket_send(socket, bytes, false) >= 0)
                ;
}

/* More than the kernel's buffers take, and far more than max_queue; no command is taken until that is gone. */
static void reply_at_length(WebSocket *socket) {
        _cleanup_(bytes_unrefp) Bytes *bytes = bytes_new(FIXTURE_REPLY_SIZE);

        memset(bytes->data, 'r', bytes->size);
        for (unsigned i = 0; i < FIXTURE_REPLIES; i++)
                assert_se(websocket_reply(socket, bytes, false) == 0);
        assert_se(websocket_queued(socket) == 0);
        assert_se(websocket_queued_replies(socket) >= (size_t) FIXTURE_REPLIES * FIXTURE_REPLY_SIZE);
        websocket_pause_reading(socket, true);
        assert_se(websocket_notify_drained(socket));
}

static bool is(const char *data, size_t size, const char *s) {
        return size == strlen(s) && memcmp(data, s, size) == 0;
}

/* What the event loop takes for the present time. */
static void send_clock(Fixture *f, WebSocket *socket) {
        char text[32];
        uint64_t now;

        assert_se(sd_event_now(f->event, CLOCK_BOOTTIME, &now) == 0);
        send_copy(socket, text, (size_t) snprintf(text, sizeof(text), "%" PRIu64, now), false);
}

static void on_message(WebSocket *socket, const char *data, size_t size, bool binary, void *userdata) {
        Fixture *f = userdata;

        assert_se(websocket_get_userdata(socket) == f);
        pthread_mutex_lock(&f->lock);
        f->seen.n_messages++;
        f->seen.message_size = size;
        f->seen.binary = binary;
        snprintf(f->seen.message, sizeof(f->seen.message), "%.*s", (int) MIN(size, (size_t) 255), data);
        seen_change(f);

        if (is(data, size, "flood"))
                flood(socket, SIZE_MAX);
        else if (is(data, size, "stall")) {
                flood(socket, f->limits.max_queue * 9 / 10);
                websocket_close(socket, 3500, NULL);
        } else if (is(data, size, "hold"))
                flood(socket, f->limits.max_queue * 9 / 10);
        else if (is(data, size, "replies"))
                reply_at_length(socket);
        else if (is(data, size, "drained?"))
                send_copy(
                        socket, f->seen.n_drained > 0 ? "yes" : "no", f->seen.n_drained > 0 ? 3 : 2, false);
        else if (is(data, size, "clock"))
                send_clock(f, socket);
        else if (is(data, size, "several")) {
                send_copy(socket, "one", 3, false);
                send_copy(socket, "two", 3, false);
                send_copy(socket, "six", 3, false);
                send_copy(socket, "\1", 1, true);
                send_copy(socket, "\2", 1, true);
                send_copy(socket, "too long", 8, false);
                assert_se(websocket_notify_drained(socket));
        } else if (is(data, size, "close")) {
                send_copy(socket, "last words", 10, false);
                websocket_close(socket, 3501, "bad request");
                websocket_close(socket, 3502, "the first counts");
                send_copy(socket, "too late", 8, false);
        } else {
                send_copy(socket, data, size, binary);
                websocket_notify_drained(socket);
        }
}

static void on_drained(WebSocket *socket, void *userdata) {
        Fixture *f = userdata;

        assert_se(websocket_queued_replies(socket) == 0 && !websocket_notify_drained(socket));
        websocket_pause_reading(socket, false);
        pthread_mutex_lock(&f->lock);
        f->seen.n_drained++;
        seen_change(f);
}

static void on_close(WebSocket *socket, bool slow, void *userdata) {
        Fixture *f = userdata;
        if (f->socket == socket)
                f->socket = NULL;
        assert_se(websocket_send(socket, &(Bytes){.n_ref = 1}, false) == -ENOTCONN);
        pthread_mutex_lock(&f->lock);
        f->seen.n_closes++;
        f->seen.n_slow += slow;
        seen_change(f);
}

static const WebHandlers handlers = {
        .on_head = on_head,
        .on_request = on_request,
        .on_abort = on_abort,
        .on_refused = on_refused,
        .on_upgrade = on_upgrade,
        .ws_protocol = "pebbles",
        .on_open = on_open,
        .on_message = on_message,
        .on_drained = on_drained,
        .on_close = on_close,
};

/* --- the server's thread --- */

static int on_call(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Fixture *f = userdata;
        uint64_t n;

        assert_se(read(fd, &n, sizeof(n)) == sizeof(n));
        f->call(f, f->call_argument);
        pthread_mutex_lock(&f->lock);
        f->call = NULL;
        seen_change(f);
        return 0;
}

static int listen_on_loopback(uint16_t *ret_port) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        assert_se(fd >= 0 && bind(fd, (struct sockaddr *) &address, size) == 0 && listen(fd, 4096) == 0 &&
                  getsockname(fd, (struct sockaddr *) &address, &size) == 0);
        *ret_port = ntohs(address.sin_port);
        return fd;
}

static void *serve(void *userdata) {
        Fixture *f = userdata;

        assert_se(sd_event_new(&f->event) >= 0);
        f->streams = streams_new(f->event, f);
        assert_se(web_loop_new(&f->loop, f->event) >= 0 &&
                  web_server_new(&f->server, f->loop, f->event, &f->limits, "/ws", &handlers, f) >= 0 &&
                  (f->server_tls ? web_server_listen_tls : web_server_listen)(
                          f->server, listen_on_loopback(&f->port)) >= 0 &&
                  sd_event_add_io(f->event, NULL, f->call_fd, EPOLLIN, on_call, f) >= 0);
        web_server_set_tls(f->server, f->server_tls);
        pthread_mutex_lock(&f->lock);
        f->ready = true;
        seen_change(f);

        assert_se(web_loop_run(f->loop) == 7);
        web_server_free(f->server);
        streams_free(f->streams);
        web_loop_free(f->loop);
        sd_event_unref(f->event);
        return NULL;
}

static void make_contexts(Fixture *f) {
        Certificate own = certificate_make(
                &(CertificateWish){.name = "server", .dns = "localhost", .ip = "127.0.0.1", .ca = true});
        const TlsConfig server = {.server = true,
                                .certificate = own.certificate,
                                .key = own.key,
                                .alpn = "http/1.1"},
                        client = {.ca = own.certificate, .peer_name = "127.0.0.1", .alpn = "http/1.1"};

        assert_se(tls_context_new(&f->server_tls, &server, NULL) == 0 &&
                  tls_context_new(&f->client_tls, &client, NULL) == 0);
        certificate_done(&own);
}

bool fixture_is_tls(void) {
        return getenv("STONECHAT_TEST_TLS");
}

Fixture *fixture_new(const WebLimits *limits) {
        Fixture *f = new0(Fixture, 1);

        pthread_mutex_init(&f->lock, NULL);
        pthread_cond_init(&f->changed, NULL);
        f->limits = *limits;
        if (fixture_is_tls())
                make_contexts(f);
        f->call_fd = eventfd(0, EFD_CLOEXEC);
        assert_se(f->call_fd >= 0 && pthread_create(&f->thread, NULL, serve, f) == 0);
        pthread_mutex_lock(&f->lock);
        while (!f->ready)
                pthread_cond_wait(&f->changed, &f->lock);
        pthread_mutex_unlock(&f->lock);
        return f;
}

static void end_loop(Fixture *f, void *argument) {
        sd_event_exit(f->event, 7);
}

void fixture_free(Fixture *f) {
        fixture_call(f, end_loop, NULL);
        pthread_join(f->thread, NULL);
        assert_se(f->seen.n_opens ==
                  f->seen.n_closes); /* of every test: on_close came once for each on_open */
        assert_se(!f->later && !f->socket);
        tls_context_unref(f->server_tls);
        tls_context_unref(f->client_tls);
        close(f->call_fd);
        pthread_mutex_destroy(&f->lock);
        pthread_cond_destroy(&f->changed);
        free(f);
}

void fixture_call(Fixture *f, void (*call)(Fixture *f, void *argument), void *argument) {
        pthread_mutex_lock(&f->lock);
        f->call = call;
        f->call_argument = argument;
        assert_se(write(f->call_fd, &(uint64_t){1}, 8) == 8);
        while (f->call)
                pthread_cond_wait(&f->changed, &f->lock);
        pthread_mutex_unlock(&f->lock);
}

void fixture_seen(Fixture *f, Seen *ret) {
        pthread_mutex_lock(&f->lock);
        *ret = f->seen;
        pthread_mutex_unlock(&f->lock);
}

unsigned fixture_wait(Fixture *f, size_t counter, unsigned n) {
        const unsigned *value = (const unsigned *) ((const char *) &f->seen + counter);
        struct timespec until;
        unsigned is;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += PATIENCE_MSEC / 1000;
        pthread_mutex_lock(&f->lock);
        while (*value < n && pthread_cond_timedwait(&f->changed, &f->lock, &until) == 0)
                ;
        is = *value;
        pthread_mutex_unlock(&f->lock);
        return is;
}

void fixture_note(Fixture *f, void (*note)(Seen *seen, void *argument), void *argument) {
        pthread_mutex_lock(&f->lock);
        note(&f->seen, argument);
        seen_change(f);
}

static void use_context(Fixture *f, void *argument) {
        web_server_set_tls(f->server, f->server_tls);
}

void fixture_renew_certificate(Fixture *f) {
        tls_context_unref(f->server_tls);
        tls_context_unref(f->client_tls);
        make_contexts(f);
        fixture_call(f, use_context, NULL);
}

Streams *fixture_streams(Fixture *f) {
        return f->streams;
}

sd_event *fixture_event(Fixture *f) {
        return f->event;
}

WebServer *fixture_server(Fixture *f) {
        return f->server;
}

static void count(Fixture *f, void *argument) {
        *(unsigned *) argument = web_server_n_connections(f->server);
}

unsigned fixture_connections(Fixture *f) {
        unsigned n;
        fixture_call(f, count, &n);
        return n;
}

/* --- clients --- */

int client_socket(void) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_se(fd >= 0);
        return fd;
}

void client_connect_socket(Fixture *f, int fd) {
        struct sockaddr_in address = {.sin_family = AF_INET,
                .sin_port = htons(f->port),
                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        assert_se(connect(fd, (struct sockaddr *) &address, sizeof(address)) == 0);
}

int client_connect(Fixture *f) {
        int fd = client_socket();

        if (f->client_tls) /* so that the pump holds back what the test does not read */
                setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){65536}, sizeof(int));
        client_connect_socket(f, fd);
        return f->client_tls ? tls_pump_start(fd, f->client_tls) : fd;
}

void client_send(int fd, const void *data, size_t size) {
        while (size > 0) {
                ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
                if (n < 0) /* refused and closed meanwhile: the test reads why */
                        return;
                data = (const char *) data + n;
                size -= (size_t) n;
        }
}

void client_send_string(int fd, const char *s) {
        client_send(fd, s, strlen(s));
}

size_t client_send_slowly(int fd, const char *s, unsigned pause_msec) {
        for (size_t i = 0; s[i]; i++) {
                struct pollfd pollfd = {.fd = fd, .events = POLLIN};
                if (send(fd, s + i, 1, MSG_NOSIGNAL) != 1 || poll(&pollfd, 1, (int) pause_msec) != 0)
                        return i;
        }
        return strlen(s);
}

/* 1, or 0 at the end of the stream. */
static int read_byte(int fd, char *ret) {
        struct pollfd pollfd = {.fd = fd, .events = POLLIN};
        assert_se(poll(&pollfd, 1, PATIENCE_MSEC) == 1);
        return recv(fd, ret, 1, 0) == 1;
}

static bool read_exactly(int fd, char *out, size_t size) {
        while (size > 0) {
                struct pollfd pollfd = {.fd = fd, .events = POLLIN};
                ssize_t n;
                assert_se(poll(&pollfd, 1, PATIENCE_MSEC) == 1);
                n = recv(fd, out, size, 0);
                if (n <= 0)
                        return false;
                out += n;
                size -= (size_t) n;
        }
        return true;
}

unsigned client_response(int fd, char **ret_head, char **ret_body, bool head_only) {
        char head[8192], *length;
        _cleanup_free_ char *body = NULL;
        size_t n = 0, size = 0;
        unsigned status = 0;

        while (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0) {
                assert_se(n < sizeof(head) - 1);
                if (!read_byte(fd, head + n))
                        return 0;
                n++;
        }
        head[n] = '\0';
        assert_se(sscanf(head, "HTTP/1.1 %u", &status) == 1);
        length = strcasestr(head, "\r\nContent-Length: ");
        if (length && !head_only)
                size = strtoul(length + 18, NULL, 10);
        body = calloc(1, size + 1);
        if (!read_exactly(fd, body, size))
                return 0;
        if (ret_head)
                *ret_head = strdup(head);
        if (ret_body)
                *ret_body = TAKE_PTR(body);
        return status;
}

bool client_closed(int fd) {
        char dropped[65536];
        for (;;) {
                struct pollfd pollfd = {.fd = fd, .events = POLLIN};
                if (poll(&pollfd, 1, PATIENCE_MSEC) != 1)
                        return false;
                if (recv(fd, dropped, sizeof(dropped), 0) <= 0)
                        return true;
        }
}

static void client_upgrade(int fd) {
        _cleanup_free_ char *head = NULL;

        client_send_string(fd, "GET /ws HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\nConnection: "
                               "keep-alive, Upgrade\r\n"
                               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                               "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
        assert_se(client_response(fd, &head, NULL, true) == 101);
        assert_se(strstr(head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")); /* RFC 6455 section 1.3 */
        assert_se(!strcasestr(head, "permessage-deflate"));
}

int client_websocket(Fixture *f) {
        int fd = client_connect(f);
        client_upgrade(fd);
        return fd;
}

void client_frame(int fd, unsigned flags, const void *data, size_t size, bool masked) {
        _cleanup_free_ unsigned char *frame = malloc(size + 14);
        static const unsigned char mask[4] = {0x12, 0x34, 0x56, 0x78};
        size_t n = 0;

        frame[n++] = (unsigned char) flags;
        if (size < 126)
                frame[n++] = (unsigned char) size;
        else if (size < 65536) {
                frame[n++] = 126;
                frame[n++] = (unsigned char) (size >> 8);
                frame[n++] = (unsigned char) size;
        } else {
                frame[n++] = 127;
                for (int i = 56; i >= 0; i -= 8)
                        frame[n++] = (unsigned char) (size >> i);
        }
        if (masked) {
                frame[1] |= 0x80;
                memcpy(frame + n, mask, 4);
                n += 4;
        }
        for (size_t i = 0; i < size; i++)
                frame[n++] = ((const unsigned char *) data)[i] ^ (masked ? mask[i & 3] : 0);
        client_send(fd, frame, n);
}

void client_text(int fd, const char *s) {
        client_frame(fd, 0x81, s, strlen(s), true);
}

bool client_read_frame(int fd, Frame *ret) {
        unsigned char head[10];

        if (!read_exactly(fd, (char *) head, 2))
                return false;
        ret->opcode = head[0] & 0xf;
        ret->final = head[0] & 0x80;
        ret->size = head[1];
        if (ret->size == 126) {
                assert_se(read_exactly(fd, (char *) head, 2));
                ret->size = (size_t) head[0] << 8 | head[1];
        } else if (ret->size == 127) {
                assert_se(read_exactly(fd, (char *) head, 8));
                ret->size = 0;
                for (int i = 0; i < 8; i++)
                        ret->size = ret->size << 8 | head[i];
        }
        assert_se(ret->size < sizeof(ret->data));
        ret->data[ret->size] = '\0';
        return read_exactly(fd, ret->data, ret->size);
}

unsigned client_close_code(int fd) {
        _cleanup_free_ Frame *frame = new0(Frame, 1);
        while (client_read_frame(fd, frame))
                if (frame->opcode == 8)
                        return frame->size < 2
                                       ? 1005
                                       : (unsigned) (uint8_t) frame->data[0] << 8 | (uint8_t) frame->data[1];
        return 0;
}
