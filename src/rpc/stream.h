/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A connected stream socket that carries frames both ways; server and client both use it. Reads and writes
 * are batched: one recv() reads many frames, and one send() writes what was queued in a turn of the loop. */

#include "rpc/rpc.h"

typedef struct Stream Stream;

typedef struct StreamHandlers {
        /* One valid envelope, borrowed for the call. A negative errno (-EPROTO: out of place) ends the
         * stream. */
        int (*on_envelope)(const Sc__Envelope *envelope, void *userdata);
        /* The stream has ended: 0 if the peer closed it, else why. Called at most once, never from within
         * another function of this header; frees the stream. */
        void (*on_end)(int error, void *userdata);
} StreamHandlers;

/* Takes the connected, non-blocking fd, on success only. The handlers must outlive the stream. */
int stream_new(Stream **ret, sd_event *event, int fd, const StreamHandlers *handlers, void *userdata);
/* May be called from its handlers, which are not called again. */
Stream *stream_free(Stream *stream);
DEFINE_CLEANUP(Stream *, stream_free);

/* Queues one frame: -EMSGSIZE if it is too large, -ENOBUFS if RPC_MAX_QUEUE bytes are waiting already,
 * -ENOMEM; -ENOTCONN once the stream has failed. */
int stream_send(Stream *stream, const Sc__Envelope *envelope);
/* Reads no more; what is queued is still sent. */
void stream_stop_reading(Stream *stream);
/* Writes now what the kernel takes, for an orderly end. */
void stream_flush(Stream *stream);
/* Lets the stream end with this error, from the loop; nothing is sent or received from now on. */
void stream_abort(Stream *stream, int error);

/* Between the surface's structs and the wire's. The results point into their arguments. */
RpcMessage rpc_message_from_envelope(const Sc__Envelope *envelope, Trace *trace);
/* An envelope with the message's method, trace, caller, intent and payload; `wire_trace` must live as long
 * as it. */
Sc__Envelope rpc_message_to_envelope(
        Sc__Envelope__Kind kind, uint64_t id, const RpcMessage *message, Sc__Trace *wire_trace);
