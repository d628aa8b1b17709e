/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A web server on its own thread, and blocking raw-socket clients to try it with. With STONECHAT_TEST_TLS=1 in the
 * environment both speak TLS, and the tests, whose sockets are plain all the same, see no difference. What the
 * server's handlers do follows from the path or the message that a client sends; see web-fixture.c. */

#include <stdbool.h>

#include "web/web.h"

/* What the message "replies" is answered with. */
#define FIXTURE_REPLIES 600U
#define FIXTURE_REPLY_SIZE 60000U

typedef struct Fixture Fixture;

/* What most tests want; the other with a request time-out of 300 ms. */
extern const WebLimits fixture_limits;
Fixture *fixture_start(void);
Fixture *fixture_start_impatient(void);
Fixture *fixture_new(const WebLimits *limits);
/* Ends the loop and frees the server with whatever is still connected. */
void fixture_free(Fixture *fixture);

/* What the handlers have seen so far. */
typedef struct Seen {
        /* of streams (stream-handlers.c) */
        unsigned n_streams, n_streams_ended;
        uint64_t streamed; /* bytes taken or written by all of them */
        uint32_t stream_sum; /* of the last one's bytes, each with its place */
        ssize_t stream_result; /* of the last one: 0, or what ended it */
        size_t stream_memory; /* the most that one held */

        unsigned n_requests, n_aborts, n_opens, n_closes, n_slow, n_messages, n_drained;
        unsigned refused; /* the last code on_refused was asked for */
        char verb[16], path[256], query[256], body[256], message[256];
        char authorization[256], traceparent[256], host[64], address[64];
        size_t body_size, message_size;
        bool binary;
} Seen;
bool fixture_is_tls(void);
void fixture_seen(Fixture *fixture, Seen *ret);
/* Waits (bounded) until the counter at this offset of Seen has reached n; what it is then. */
unsigned fixture_wait(Fixture *fixture, size_t counter, unsigned n);
#define WAIT_SEEN(fixture, counter, n) fixture_wait(fixture, offsetof(Seen, counter), n)
/* Runs f on the server's thread, and waits for it. */
void fixture_call(Fixture *fixture, void (*f)(Fixture *fixture, void *argument), void *argument);
WebServer *fixture_server(Fixture *fixture);
/* Another certificate for the connections that come from now on, and clients that trust no other. */
void fixture_renew_certificate(Fixture *fixture);
/* For handlers: changes what was seen. */
void fixture_note(Fixture *fixture, void (*note)(Seen *seen, void *argument), void *argument);
typedef struct Streams Streams;
Streams *fixture_streams(Fixture *fixture);
sd_event *fixture_event(Fixture *fixture);
unsigned fixture_connections(Fixture *fixture);

/* --- clients --- */
int client_socket(void);
void client_connect_socket(Fixture *fixture, int fd);
int client_connect(Fixture *fixture);
void client_send(int fd, const void *data, size_t size);
void client_send_string(int fd, const char *s);
/* Sends bytes one at a time with pauses until all are sent or the server closes; how many were. */
size_t client_send_slowly(int fd, const char *s, unsigned pause_msec);
/* One response with its body by Content-Length (not read when it answers HEAD); its status, 0 when the
 * connection closed before. text: the head; body: NUL-terminated; both may be NULL. */
unsigned client_response(int fd, char **ret_head, char **ret_body, bool head_only);
/* True when the server closes (bounded wait); drops what comes before. */
bool client_closed(int fd);

typedef struct Frame {
        unsigned opcode;
        bool final;
        size_t size;
        char data[70000];
} Frame;
int client_websocket(Fixture *fixture);
/* flags: first byte (FIN, RSV, opcode). */
void client_frame(int fd, unsigned flags, const void *data, size_t size, bool masked);
void client_text(int fd, const char *s);
/* False when the connection closed. */
bool client_read_frame(int fd, Frame *ret);
/* The code of the close frame that comes next (others are skipped); 0 when the connection closed without. */
unsigned client_close_code(int fd);
