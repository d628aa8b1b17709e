/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/gateway/page.h"

#include "util/string-util.h"

/* Messages of a page share WebSocket messages of about this size. */
#define CHUNK_SIZE (16U << 10)
#define CHUNKS_MAX 64U

/* The part of a page from one message on, encoded; most connections lack the same part. */
typedef struct EncodedPage {
        const Channel *channel;
        const Sc__RecoverResponse__Page *page;
        CodecKind codec;
        size_t first; /* publication; SIZE_MAX: nothing is encoded */
        Bytes *chunks[CHUNKS_MAX];
        size_t n;
} EncodedPage;

static void encoded_page_done(EncodedPage *encoded) {
        FOREACH_ARRAY(chunk, encoded->chunks, encoded->n)
                bytes_unref(*chunk);
        encoded->n = 0;
        encoded->first = SIZE_MAX;
}

static int append_publication(
        Buffer *out, CodecKind codec, const Channel *channel, const Sc__RecoverResponse__Publication *from) {
        Client__Reply reply = CLIENT__REPLY__INIT;
        Client__Push push = CLIENT__PUSH__INIT;
        Client__Publication publication = CLIENT__PUBLICATION__INIT;
        Client__ClientInfo info = CLIENT__CLIENT_INFO__INIT;

        publication.data = from->data;
        publication.offset = from->seq;
        if (!isempty(from->sender)) {
                info.user = from->sender;
                publication.info = &info;
        }
        push.channel = (char *) channel->conversation;
        push.what_case = CLIENT__PUSH__WHAT_PUB;
        push.pub = &publication;
        reply.result_case = CLIENT__REPLY__RESULT_PUSH;
        reply.push = &push;
        return codec_append(out, codec, &reply);
}

static int add_chunk(EncodedPage *encoded, Buffer *out) {
        Bytes *chunk = encoded->n < CHUNKS_MAX ? bytes_new_copy(out->data, out->size) : NULL;

        if (!chunk)
                return -ENOMEM;
        encoded->chunks[encoded->n++] = chunk;
        out->size = 0;
        return 0;
}

static int encode(EncodedPage *encoded, CodecKind codec, size_t first) {
        const Sc__RecoverResponse__Page *page = encoded->page;
        _cleanup_buffer_ Buffer out = {};
        int r = 0;

        if (encoded->codec == codec && encoded->first == first)
                return 0;
        encoded_page_done(encoded);
        for (size_t i = first; i < page->n_publications && r >= 0; i++) {
                r = append_publication(&out, codec, encoded->channel, page->publications[i]);
                if (r >= 0 && out.size >= CHUNK_SIZE)
                        r = add_chunk(encoded, &out);
        }
        if (r >= 0 && out.size > 0)
                r = add_chunk(encoded, &out);
        if (r < 0) {
                encoded_page_done(encoded);
                return r;
        }
        encoded->codec = codec;
        encoded->first = first;
        return 0;
}

static int send_part(EncodedPage *encoded, Subscription *subscription) {
        const Sc__RecoverResponse__Page *page = encoded->page;
        Connection *connection = subscription->connection;
        SocketRole *role = connection->role;
        uint64_t first = page->publications[0]->seq;
        uint64_t last = page->publications[page->n_publications - 1]->seq;

        if (subscription->position >= last)
                return 0;
        int r = encode(encoded, connection->codec, subscription->position + 1 - first);
        if (r < 0)
                return r;
        FOREACH_ARRAY(chunk, encoded->chunks, encoded->n)
                if (connection_send_reply(connection, *chunk) < 0)
                        return 0; /* and the subscription has gone */
        role->statistics.recovered += last - subscription->position;
        subscription->position = last;
        return 0;
}

int channel_send_page(SocketRole *role, Channel *channel, uint64_t from,
        const Sc__RecoverResponse__Page *page, const Connection *asked) {
        _cleanup_(encoded_page_done)
                EncodedPage encoded = {.channel = channel, .page = page, .first = SIZE_MAX};
        Subscription *next;
        int r = 0;

        if (page->n_publications == 0)
                return 0;
        for (Subscription *s = LIST_FIRST(&channel->subscriptions); s && r >= 0; s = next) {
                next = LIST_NEXT(s, in_channel);
                if (!s->announced || s->connection->state != CONNECTION_CONNECTED || s->position < from ||
                        (s->connection != asked && !page_fits(s->connection)))
                        continue;
                if (s->position + 1 < page->publications[0]->seq)
                        (void) subscription_restart(s);
                else
                        r = send_part(&encoded, s);
        }
        return r;
}
