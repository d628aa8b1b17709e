/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/stream.h"

#include <sys/epoll.h>

#include "rpc/frame.h"
#include "rpc/hello.h"
#include "util/bytes.h"
#include "util/time-util.h"

/* Bytes that one read asks for, and how often a stream reads in one turn of the loop: the other sources have to
 * get their turns. */
#define READ_CHUNK (64U << 10)
#define READS_PER_TURN 4U
/* An empty buffer that has grown beyond this is given back. */
#define BUFFER_KEEP (256U << 10)
/* A peer that has so much to read sees that we live, and needs no PONG. */
#define PONG_QUEUE (64U << 10)
/* So many ticks without a byte are the end. */
#define DEAD_TICKS (RPC_DEAD_USEC / RPC_PING_USEC)

uint64_t stream_tick_usec = RPC_PING_USEC;

struct Stream {
        unsigned n_ref; /* of the owner, and of each callback that runs */
        Transport *transport;
        const StreamHandlers *handlers; /* NULL: the owner has freed the stream */
        void *userdata;
        sd_event_source *io, *turn, *tick;
        uint32_t watched; /* what `io` waits for */
        Buffer in;
        Lanes out;
        bool greeted; /* the peer's HELLO has come */
        bool blocked; /* the kernel's buffer is full: the io source says when to go on */
        bool turning; /* the turn source is armed */
        bool paused; /* reads nothing for now */
        bool stopped_reading; /* reads nothing any more */
        bool ended;
        int error; /* why */
        const char *error_text; /* likewise; NULL: by the error */
        /* since the last tick, and how many ticks without */
        bool received, sent;
        unsigned silent_ticks, stuck_ticks, ungreeted_ticks;
};

static Stream *stream_unref(Stream *stream) {
        if (!stream || --stream->n_ref > 0)
                return NULL;
        buffer_done(&stream->in);
        lanes_done(&stream->out);
        transport_free(stream->transport);
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
        stream->ended = true;
        stream->io = sd_event_source_disable_unref(stream->io);
        stream->turn = sd_event_source_disable_unref(stream->turn);
        stream->tick = sd_event_source_disable_unref(stream->tick);
        /* The peer hears of it now, also when a callback of the stream still runs. */
        stream->transport = transport_free(stream->transport);
        return stream_unref(stream);
}

Transport *stream_transport(Stream *stream) {
        return stream->transport;
}

/* --- the end --- */

static const char *error_text(int error) {
        switch (error) {
        case -EMSGSIZE:
                return "it sent a frame that is too long";
        case -EBADMSG:
                return "it sent a malformed frame";
        case -EPROTO:
                return "it sent a frame out of place";
        case -ENOBUFS:
                return "more waits for it than it reads";
        default:
                return strerrordesc_np(-error) ?: "unknown error";
        }
}

static void report_end(Stream *stream) {
        if (!stream->handlers)
                return;
        const StreamHandlers *handlers = TAKE_PTR(stream->handlers);
        sd_event_source_set_enabled(stream->io, SD_EVENT_OFF);
        sd_event_source_set_enabled(stream->turn, SD_EVENT_OFF);
        sd_event_source_set_enabled(stream->tick, SD_EVENT_OFF);
        handlers->on_end(stream->error, stream->error_text ?: error_text(stream->error), stream->userdata);
}

/* Something is to be done in this turn of the loop, after what is ready already. */
static void arm_turn(Stream *stream) {
        if (stream->turning)
                return;
        stream->turning = true;
        sd_event_source_set_enabled(stream->turn, SD_EVENT_ONESHOT);
}

/* Fails the stream. The callback that runs, or the next one, reports it to the owner. */
static void set_ended(Stream *stream, int error, const char *text) {
        if (stream->ended)
                return;
        stream->ended = true;
        stream->error = error;
        stream->error_text = text;
}

/* A peer that ends with our data unread resets the connection. That is no error. */
static void set_ended_by_transport(Stream *stream, int error) {
        if (error == -ECONNRESET)
                set_ended(stream, 0, NULL);
        else
                set_ended(stream, error, transport_error_text(stream->transport));
}

void stream_abort(Stream *stream, int error) {
        set_ended(stream, error, NULL);
        sd_event_source_set_enabled(stream->io, SD_EVENT_OFF);
        arm_turn(stream);
}

static bool reads(const Stream *stream) {
        return !stream->stopped_reading && !stream->paused;
}

static void watch(Stream *stream) {
        if (stream->ended || !stream->transport)
                return;
        uint32_t events = transport_events(stream->transport, reads(stream), stream->blocked);
        if (events == stream->watched)
                return;
        int r = sd_event_source_set_io_events(stream->io, events);
        if (r < 0)
                set_ended(stream, r, NULL);
        stream->watched = events;
}

void stream_stop_reading(Stream *stream) {
        stream->stopped_reading = true;
        watch(stream);
        if (stream->ended)
                arm_turn(stream); /* to tell the owner */
}

void stream_pause_reading(Stream *stream, bool pause) {
        if (stream->paused == pause)
                return;
        stream->paused = pause;
        stream->silent_ticks = 0;
        watch(stream);
        /* What was read already goes on, from the loop. */
        if (stream->ended || !pause)
                arm_turn(stream);
}

/* --- sending --- */

static void write_out(Stream *stream) {
        struct iovec next;

        stream->blocked = false;
        while (!stream->ended && lanes_next(&stream->out, &next)) {
                ssize_t n = transport_writev(stream->transport, &next, 1);
                if (n == -EAGAIN) {
                        stream->blocked = true;
                        break;
                }
                if (n < 0)
                        return set_ended_by_transport(stream, (int) n);
                stream->sent = true;
                lanes_sent(&stream->out, (size_t) n);
        }
}

void stream_flush(Stream *stream) {
        write_out(stream);
        watch(stream);
        if (stream->ended)
                arm_turn(stream); /* to tell the owner */
}

int stream_send(Stream *stream, Lane lane, const Sc__Envelope *envelope) {
        if (stream->ended)
                return -ENOTCONN;
        if (lanes_size(&stream->out) >= RPC_MAX_QUEUE)
                return -ENOBUFS;
        int r = lanes_add(&stream->out, lane, envelope);
        if (r < 0)
                return r;
        if (!stream->blocked)
                arm_turn(stream);
        return 0;
}

size_t stream_queued(const Stream *stream) {
        return lanes_size(&stream->out);
}

size_t stream_queued_bulk(const Stream *stream) {
        return stream->out.bulk_size;
}

static int send_control(Stream *stream, Sc__Envelope__Kind kind) {
        Sc__Envelope envelope = SC__ENVELOPE__INIT;

        envelope.kind = kind;
        return stream_send(stream, LANE_URGENT, &envelope);
}

/* --- receiving --- */

static int take_hello(Stream *stream, const Sc__Envelope *envelope) {
        Role role;

        if (envelope->kind != SC__ENVELOPE__KIND__HELLO) {
                stream->error_text = "its first frame is no HELLO";
                return -EPROTO;
        }
        int r = hello_check(envelope->hello, &role);
        if (r < 0) {
                stream->error_text = "it speaks a version of the frames that we do not";
                return r;
        }
        stream->greeted = true;
        return stream->handlers->on_hello(envelope->hello, role, &stream->error_text, stream->userdata);
}

static int take_envelope(Stream *stream, const Sc__Envelope *envelope) {
        if (!stream->greeted)
                return take_hello(stream, envelope);
        switch (envelope->kind) {
        case SC__ENVELOPE__KIND__HELLO:
                return -EPROTO;
        case SC__ENVELOPE__KIND__PING:
                if (lanes_size(&stream->out) < PONG_QUEUE)
                        (void) send_control(stream, SC__ENVELOPE__KIND__PONG);
                return 0;
        case SC__ENVELOPE__KIND__PONG:
                return 0;
        default:
                return stream->handlers->on_envelope(envelope, stream->userdata);
        }
}

static int deliver_frame(Stream *stream, const uint8_t *data, size_t size) {
        _cleanup_arena_ Arena arena;
        Sc__Envelope *envelope;

        arena_init(&arena, frame_arena_limit(size));
        int r = frame_unpack(&arena, data, size, &envelope);
        return r < 0 ? r : take_envelope(stream, envelope);
}

/* Hands on every whole frame that has come in. */
static void deliver_in(Stream *stream) {
        size_t consumed = 0, size;
        const uint8_t *frame;
        int r = 0;

        while (!stream->ended && reads(stream) && stream->handlers) {
                r = frame_find(stream->in.data + consumed, stream->in.size - consumed, &frame, &size);
                if (r <= 0)
                        break;
                consumed += FRAME_HEADER_SIZE + size;
                r = deliver_frame(stream, frame, size);
                if (r < 0)
                        break;
        }
        if (r < 0)
                set_ended(stream, r, stream->error_text);
        buffer_consume(&stream->in, consumed);
        if (stream->in.size == 0 && stream->in.allocated > BUFFER_KEEP)
                buffer_done(&stream->in);
}

static bool can_read(const Stream *stream) {
        return reads(stream) && !stream->ended && stream->handlers;
}

static void read_in(Stream *stream) {
        for (unsigned i = 0; i < READS_PER_TURN && can_read(stream); i++) {
                uint8_t *p = buffer_reserve(&stream->in, READ_CHUNK);
                if (!p)
                        return set_ended(stream, stream->in.error, NULL);
                size_t room = stream->in.allocated - stream->in.size;
                ssize_t n = transport_read(stream->transport, p, room);
                if (n == -EAGAIN)
                        return;
                if (n < 0)
                        return set_ended_by_transport(stream, (int) n);
                if (n == 0)
                        return set_ended(stream, 0, NULL);
                stream->received = true;
                buffer_commit(&stream->in, (size_t) n);
                deliver_in(stream);
                if ((size_t) n < room)
                        break;
        }
        if (can_read(stream) && transport_has_pending(stream->transport))
                arm_turn(stream);
}

/* --- callbacks of the loop --- */

/* At the end of each: the owner may have freed the stream meanwhile. */
static void finish_turn(Stream *stream, size_t queued_before) {
        if (!stream->handlers)
                return;
        if (!stream->ended && stream->handlers->on_written && stream_queued(stream) < queued_before)
                stream->handlers->on_written(stream->userdata);
        if (!stream->handlers)
                return;
        watch(stream);
        if (stream->ended)
                report_end(stream);
}

static int on_io(_unused_ sd_event_source *source, _unused_ int fd, uint32_t revents, void *userdata) {
        _cleanup_(stream_unrefp) Stream *stream = stream_ref(userdata);
        /* TLS may have to read in order to write, and the other way round. */
        bool both = transport_is_tls(stream->transport);
        size_t before = stream_queued(stream);

        if ((revents & EPOLLOUT) || both)
                write_out(stream);
        if ((revents & (EPOLLIN | EPOLLHUP | EPOLLERR)) || both)
                read_in(stream);
        if (!reads(stream) && (revents & (EPOLLHUP | EPOLLERR)))
                set_ended(stream, 0, NULL);
        finish_turn(stream, before);
        return 0;
}

static int on_turn(_unused_ sd_event_source *source, void *userdata) {
        _cleanup_(stream_unrefp) Stream *stream = stream_ref(userdata);
        size_t before = stream_queued(stream);

        stream->turning = false;
        if (!stream->blocked)
                write_out(stream);
        if (reads(stream) && stream->in.size > 0)
                deliver_in(stream);
        if (can_read(stream) && transport_has_pending(stream->transport))
                read_in(stream);
        finish_turn(stream, before);
        return 0;
}

static void check_life(Stream *stream) {
        stream->silent_ticks = stream->received || !reads(stream) ? 0 : stream->silent_ticks + 1;
        stream->stuck_ticks = stream->sent || stream_queued(stream) == 0 ? 0 : stream->stuck_ticks + 1;
        stream->ungreeted_ticks += !stream->greeted;
        stream->received = stream->sent = false;
        if (stream->ungreeted_ticks >= DEAD_TICKS)
                set_ended(stream, -ETIMEDOUT, "it has not said who it is in time");
        else if (stream->silent_ticks >= DEAD_TICKS)
                set_ended(stream, -ETIMEDOUT, "nothing has come from it for too long");
        else if (stream->stuck_ticks >= DEAD_TICKS)
                set_ended(stream, -ETIMEDOUT, "it has read nothing for too long");
}

/* A peer that we do not listen to is kept alive by our pings. */
static int on_tick(sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        _cleanup_(stream_unrefp) Stream *stream = stream_ref(userdata);
        bool heard = stream->received;

        check_life(stream);
        if (!stream->ended && stream->greeted && !heard)
                (void) send_control(stream, SC__ENVELOPE__KIND__PING);
        if (!stream->ended) {
                int r = sd_event_source_set_time_relative(source, stream_tick_usec);
                if (r >= 0)
                        r = sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
                if (r < 0)
                        set_ended(stream, r, NULL);
        }
        if (stream->ended)
                report_end(stream);
        return 0;
}

static int add_sources(Stream *stream, sd_event *event, int fd) {
        int r = sd_event_add_io(event, &stream->io, fd, EPOLLIN, on_io, stream);
        if (r < 0)
                return r;
        stream->watched = EPOLLIN;
        /* At the same priority as everything else: sources that are ready already get their turn first and
         * add to the batch, later ones come after it, so that it never starves. */
        r = sd_event_add_defer(event, &stream->turn, on_turn, stream);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(stream->turn, SD_EVENT_OFF);
        if (r < 0)
                return r;
        return sd_event_add_time_relative(event, &stream->tick, CLOCK_BOOTTIME, stream_tick_usec,
                stream_tick_usec / 20, on_tick, stream);
}

int stream_new(Stream **ret, sd_event *event, Transport *transport, Role self,
        const StreamHandlers *handlers, void *userdata) {
        _cleanup_(stream_freep) Stream *stream = new0(Stream, 1);
        Sc__Envelope__Hello hello;

        if (!stream)
                return -ENOMEM;
        stream->n_ref = 1;
        stream->handlers = handlers;
        stream->userdata = userdata;
        lanes_init(&stream->out);
        int r = add_sources(stream, event, transport_fd(transport));
        if (r < 0)
                return r;
        const Sc__Envelope envelope = hello_make(self, &hello);
        r = stream_send(stream, LANE_URGENT, &envelope);
        if (r < 0)
                return r;
        stream->transport = transport;
        *ret = TAKE_PTR(stream);
        return 0;
}
