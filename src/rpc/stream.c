/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/stream.h"

#include <sys/socket.h>

#include "rpc/frame.h"
#include "util/bytes.h"
#include "util/fd-util.h"
#include "util/string-util.h"

/* Bytes that one recv() asks for, and how often a stream calls it in one turn of the loop: the other sources
 * have to get their turns. */
#define READ_CHUNK (64U << 10)
#define READS_PER_TURN 4U
/* An empty buffer that has grown beyond this is given back. */
#define BUFFER_KEEP (256U << 10)

struct Stream {
        unsigned n_ref; /* of the owner, and of each callback that runs */
        int fd;
        const StreamHandlers *handlers; /* NULL: the owner has freed the stream */
        void *userdata;
        sd_event_source *io, *flush;
        Buffer in, out;
        size_t out_start; /* everything of `out` before this has been sent */
        bool blocked; /* the kernel's buffer is full: EPOLLOUT says when to go on */
        bool flushing; /* the flush source is armed */
        bool stopped_reading; /* reads nothing any more */
        bool ended;
        int error; /* why */
};

static Stream *stream_unref(Stream *stream) {
        if (!stream || --stream->n_ref > 0)
                return NULL;
        buffer_done(&stream->in);
        buffer_done(&stream->out);
        safe_close(stream->fd);
        free(stream);
        return NULL;
}
DEFINE_CLEANUP(Stream *, stream_unref);

static Stream *stream_ref(Stream *stream) {
        stream->n_ref++;
        return stream;
}

Stream *stream_free(Stream *stream) {
        if (!stream)
                return NULL;
        stream->handlers = NULL;
        stream->io = sd_event_source_disable_unref(stream->io);
        stream->flush = sd_event_source_disable_unref(stream->flush);
        stream->fd = safe_close(stream->fd);
        return stream_unref(stream);
}

static void report_end(Stream *stream) {
        if (!stream->handlers)
                return;
        const StreamHandlers *handlers = TAKE_PTR(stream->handlers);
        sd_event_source_set_enabled(stream->io, SD_EVENT_OFF);
        sd_event_source_set_enabled(stream->flush, SD_EVENT_OFF);
        handlers->on_end(stream->error, stream->userdata);
}

static void arm_flush(Stream *stream) {
        if (stream->flushing)
                return;
        stream->flushing = true;
        sd_event_source_set_enabled(stream->flush, SD_EVENT_ONESHOT);
}

/* A peer that ends with our data unread resets the connection. That is no error. */
static int socket_error(int error_number) {
        return error_number == EPIPE || error_number == ECONNRESET ? 0 : -error_number;
}

/* Fails the stream. The callback that runs, or the next one, reports it to the owner. */
static void set_ended(Stream *stream, int error) {
        if (stream->ended)
                return;
        stream->ended = true;
        stream->error = error;
}

void stream_abort(Stream *stream, int error) {
        set_ended(stream, error);
        sd_event_source_set_enabled(stream->io, SD_EVENT_OFF);
        arm_flush(stream);
}

static void watch(Stream *stream) {
        int r = sd_event_source_set_io_events(
                stream->io, (stream->stopped_reading ? 0 : EPOLLIN) | (stream->blocked ? EPOLLOUT : 0));
        if (r < 0)
                set_ended(stream, r);
}

static void set_blocked(Stream *stream, bool blocked) {
        if (stream->blocked == blocked)
                return;
        stream->blocked = blocked;
        watch(stream);
}

void stream_stop_reading(Stream *stream) {
        stream->stopped_reading = true;
        watch(stream);
        if (stream->ended)
                arm_flush(stream); /* to tell the owner */
}

/* Drops what was sent: at once when it is all, else only when it is worth moving the rest. */
static void trim_out(Stream *stream) {
        if (stream->out_start == stream->out.size) {
                stream->out.size = stream->out_start = 0;
                if (stream->out.allocated > BUFFER_KEEP)
                        buffer_done(&stream->out);
        } else if (stream->out_start > stream->out.size / 2) {
                buffer_consume(&stream->out, stream->out_start);
                stream->out_start = 0;
        }
}

static void write_out(Stream *stream) {
        while (!stream->ended && stream->out_start < stream->out.size) {
                ssize_t n = send(stream->fd, stream->out.data + stream->out_start,
                        stream->out.size - stream->out_start, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN) {
                        set_blocked(stream, true);
                        break;
                }
                if (n < 0)
                        return set_ended(stream, socket_error(errno));
                stream->out_start += (size_t) n;
        }
        if (stream->out_start == stream->out.size)
                set_blocked(stream, false);
        trim_out(stream);
}

void stream_flush(Stream *stream) {
        write_out(stream);
        if (stream->ended)
                arm_flush(stream); /* to tell the owner */
}

static int deliver_frame(Stream *stream, const uint8_t *data, size_t size) {
        _cleanup_arena_ Arena arena;
        Sc__Envelope *envelope;

        arena_init(&arena, frame_arena_limit(size));
        int r = frame_unpack(&arena, data, size, &envelope);
        if (r < 0)
                return r;
        return stream->handlers->on_envelope(envelope, stream->userdata);
}

/* Hands on every whole frame that has come in. */
static void deliver_in(Stream *stream) {
        size_t consumed = 0, size;
        const uint8_t *frame;
        int r = 0;

        while (!stream->ended && !stream->stopped_reading && stream->handlers) {
                r = frame_find(stream->in.data + consumed, stream->in.size - consumed, &frame, &size);
                if (r <= 0)
                        break;
                consumed += FRAME_HEADER_SIZE + size;
                r = deliver_frame(stream, frame, size);
                if (r < 0)
                        break;
        }
        if (r < 0)
                set_ended(stream, r);
        buffer_consume(&stream->in, consumed);
        if (stream->in.size == 0 && stream->in.allocated > BUFFER_KEEP)
                buffer_done(&stream->in);
}

static void read_in(Stream *stream) {
        for (unsigned i = 0;
                i < READS_PER_TURN && !stream->stopped_reading && !stream->ended && stream->handlers; i++) {
                uint8_t *p = buffer_reserve(&stream->in, READ_CHUNK);
                if (!p)
                        return set_ended(stream, stream->in.error);
                size_t room = stream->in.allocated - stream->in.size;
                ssize_t n = recv(stream->fd, p, room, MSG_DONTWAIT);
                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return;
                if (n <= 0)
                        return set_ended(stream, n < 0 ? socket_error(errno) : 0);
                buffer_commit(&stream->in, (size_t) n);
                deliver_in(stream);
                if ((size_t) n < room)
                        return;
        }
}

static int on_io(_unused_ sd_event_source *source, _unused_ int fd, uint32_t revents, void *userdata) {
        _cleanup_(stream_unrefp) Stream *stream = stream_ref(userdata);

        if (revents & EPOLLOUT)
                write_out(stream);
        if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
                read_in(stream);
        if (stream->stopped_reading && (revents & (EPOLLHUP | EPOLLERR)))
                set_ended(stream, 0);
        if (stream->ended)
                report_end(stream);
        return 0;
}

static int on_flush(_unused_ sd_event_source *source, void *userdata) {
        _cleanup_(stream_unrefp) Stream *stream = stream_ref(userdata);

        stream->flushing = false;
        if (!stream->blocked)
                write_out(stream);
        if (stream->ended)
                report_end(stream);
        return 0;
}

int stream_new(Stream **ret, sd_event *event, int fd, const StreamHandlers *handlers, void *userdata) {
        _cleanup_(stream_freep) Stream *stream = new0(Stream, 1);
        if (!stream)
                return -ENOMEM;
        stream->n_ref = 1;
        stream->fd = -EBADF;
        stream->handlers = handlers;
        stream->userdata = userdata;
        int r = sd_event_add_io(event, &stream->io, fd, EPOLLIN, on_io, stream);
        if (r < 0)
                return r;
        /* At the same priority as everything else: sources that are ready already get their turn first and
         * add to the batch, later ones come after it, so that it never starves. */
        r = sd_event_add_defer(event, &stream->flush, on_flush, stream);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(stream->flush, SD_EVENT_OFF);
        if (r < 0)
                return r;
        stream->fd = fd;
        *ret = TAKE_PTR(stream);
        return 0;
}

int stream_send(Stream *stream, const Sc__Envelope *envelope) {
        if (stream->ended)
                return -ENOTCONN;
        if (stream->out.size - stream->out_start >= RPC_MAX_QUEUE)
                return -ENOBUFS;
        int r = frame_append(&stream->out, envelope);
        if (r < 0) {
                stream->out.error = 0; /* nothing was appended: the queue is as good as before */
                return r;
        }
        if (!stream->blocked)
                arm_flush(stream);
        return 0;
}

RpcMessage rpc_message_from_envelope(const Sc__Envelope *envelope, Trace *trace) {
        RpcMessage message = {
                .method = envelope->method,
                .caller = envelope->caller,
                .intent = envelope->intent,
                .timeout_usec = envelope->timeout_ms * 1000ULL,
                .order = envelope->order,
                .payload = envelope->payload.data,
                .payload_size = envelope->payload.len,
        };

        if (envelope->trace) {
                memcpy(trace->id, envelope->trace->id.data, sizeof(trace->id));
                trace->parent = envelope->trace->parent;
                trace->sampled = envelope->trace->sampled;
                message.trace = trace;
        }
        return message;
}

Sc__Envelope rpc_message_to_envelope(
        Sc__Envelope__Kind kind, uint64_t id, const RpcMessage *message, Sc__Trace *wire_trace) {
        Sc__Envelope envelope = SC__ENVELOPE__INIT;

        envelope.kind = kind;
        envelope.id = id;
        if (message->method)
                envelope.method = (char *) message->method;
        envelope.caller = (Sc__Caller *) message->caller;
        envelope.intent = (Sc__Envelope__Delivery *) message->intent;
        envelope.order = message->order;
        envelope.payload = (ProtobufCBinaryData){message->payload_size, (uint8_t *) message->payload};
        if (message->trace) {
                *wire_trace = (Sc__Trace) SC__TRACE__INIT;
                wire_trace->id =
                        (ProtobufCBinaryData){sizeof(message->trace->id), (uint8_t *) message->trace->id};
                wire_trace->parent = message->trace->parent;
                wire_trace->sampled = message->trace->sampled;
                envelope.trace = wire_trace;
        }
        return envelope;
}
