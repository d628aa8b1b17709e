/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A connected transport that carries frames both ways; server and client both use it. Reads and writes are
 * batched: one read takes many frames, and one write sends what was queued in a turn of the loop.
 *
 * The first frame each way is a HELLO, which the stream sends and checks. A peer that says nothing for
 * RPC_PING_USEC is sent a PING; one that says nothing for RPC_DEAD_USEC, or reads nothing for so long, is dead. */

#include "rpc/lanes.h"
#include "rpc/rpc.h"
#include "transport/transport.h"

typedef struct Stream Stream;

typedef struct StreamHandlers {
        /* The peer's HELLO: it speaks a version that we understand, and calls itself this role. Comes before
         * everything else. A negative errno ends the stream, with *ret_text as its reason. */
        int (*on_hello)(const Sc__Envelope__Hello *hello, Role role, const char **ret_text, void *userdata);
        /* A request, response, push or cancellation, borrowed for the call. A negative errno (-EPROTO: out of
         * place) ends the stream. */
        int (*on_envelope)(const Sc__Envelope *envelope, void *userdata);
        /* Something was written; what waits is less now. Optional. */
        void (*on_written)(void *userdata);
        /* The stream has ended: 0 if the peer closed it, else why, with a text for the journal. Called at most
         * once, never from within another function of this header; frees the stream. */
        void (*on_end)(int error, const char *text, void *userdata);
} StreamHandlers;

/* How often a stream looks whether its peer lives: RPC_PING_USEC. Tests shorten it. */
extern uint64_t stream_tick_usec;

/* Takes the transport, on success only; it may still be connecting. The handlers must outlive the stream. */
int stream_new(Stream **ret, sd_event *event, Transport *transport, Role self,
        const StreamHandlers *handlers, void *userdata);
/* May be called from its handlers, which are not called again. */
Stream *stream_free(Stream *stream);
DEFINE_CLEANUP(Stream *, stream_free);

/* Queues one frame: -EMSGSIZE if it is too large, -ENOBUFS if RPC_MAX_QUEUE bytes are waiting already,
 * -ENOMEM; -ENOTCONN once the stream has failed. */
int stream_send(Stream *stream, Lane lane, const Sc__Envelope *envelope);
/* Bytes that wait in both lanes, and in the bulk lane. */
size_t stream_queued(const Stream *stream);
size_t stream_queued_bulk(const Stream *stream);
/* Reads no more, or goes on; what is queued is still sent. */
void stream_pause_reading(Stream *stream, bool pause);
/* For good. */
void stream_stop_reading(Stream *stream);
/* Writes now what the kernel takes, for an orderly end. */
void stream_flush(Stream *stream);
/* Lets the stream end with this error, from the loop; nothing is sent or received from now on. */
void stream_abort(Stream *stream, int error);
Transport *stream_transport(Stream *stream);

/* Between the surface's structs and the wire's. The results point into their arguments. */
RpcMessage rpc_message_from_envelope(const Sc__Envelope *envelope, Trace *trace);
/* An envelope with the message's method, trace, caller, intent, order and payload; `wire_trace` must live as
 * long as it. */
Sc__Envelope rpc_message_to_envelope(
        Sc__Envelope__Kind kind, uint64_t id, const RpcMessage *message, Sc__Trace *wire_trace);
