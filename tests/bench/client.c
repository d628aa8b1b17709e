/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "client.h"
#include "util/fd-util.h"
#include "util/string-util.h"

int parse_endpoint(const char *text, struct sockaddr_in *ret) {
        const char *colon = strchr(text, ':');
        struct sockaddr_in address = {.sin_family = AF_INET};
        char host[INET_ADDRSTRLEN];
        uint64_t port;

        if (!colon || (size_t) (colon - text) >= sizeof(host) || parse_u64(colon + 1, UINT16_MAX, &port) < 0)
                return -EINVAL;
        memcpy(host, text, (size_t) (colon - text));
        host[colon - text] = 0;
        if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
                return -EINVAL;
        if (ntohl(address.sin_addr.s_addr) >> 24 != 127)
                return -EPERM;
        address.sin_port = htons((uint16_t) port);
        *ret = address;
        return 0;
}

static int write_all(int fd, const void *data, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, data, size);
                if (n < 0)
                        return -errno;
                data = (const char *) data + n;
                size -= (size_t) n;
        }
        return 0;
}

/* The server closes after the answer, as asked. */
static int read_to_end(int fd, Buffer *in) {
        for (;;) {
                uint8_t *end = buffer_reserve(in, 65536);
                if (!end)
                        return in->error;
                ssize_t n = read(fd, end, 65536);
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return 0;
                buffer_commit(in, (size_t) n);
        }
}

int connect_from(const struct sockaddr_in *address, uint32_t source) {
        static const int one = 1;
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(source)};
        _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return -errno;
        if (source > 0) {
                /* The port is chosen when it connects, so that one port serves many addresses. */
                (void) setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
                if (bind(fd, (const struct sockaddr *) &from, sizeof(from)) < 0)
                        return -errno;
        }
        if (connect(fd, (const struct sockaddr *) address, sizeof(*address)) < 0)
                return -errno;
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        return TAKE_FD(fd);
}

/* A chunked body becomes a plain one, in its place. */
static int join_chunks(char *body) {
        char *to = body;

        for (char *from = body;;) {
                char *end;
                size_t size = strtoul(from, &end, 16);
                if (end == from || !(from = strstr(end, "\r\n")) || strlen(from + 2) < size)
                        return -EBADMSG;
                memmove(to, from + 2, size);
                to += size;
                if (size == 0)
                        break;
                from += 2 + size;
                if (!(from = startswith(from, "\r\n") ? from + 2 : NULL))
                        return -EBADMSG;
        }
        *to = 0;
        return 0;
}

int rest_call(const struct sockaddr_in *api, const char *verb, const char *path, const char *token,
        json_t *body, json_t **ret) {
        return rest_call_from(api, 0, verb, path, token, body, ret);
}

int rest_read(const struct sockaddr_in *api, uint32_t source, const char *path, const char *token,
        char **ret, size_t *ret_size) {
        _cleanup_close_ int fd = connect_from(api, source);
        _cleanup_free_ char *request = format_string("GET %s HTTP/1.1\r\nHost: localhost\r\n"
                                                     "Connection: close\r\nAuthorization: Bearer %s\r\n\r\n",
                path, token);
        _cleanup_buffer_ Buffer in = {.limit = 32U << 20};
        unsigned status;

        if (fd < 0)
                return fd;
        if (!request)
                return -ENOMEM;
        int r = write_all(fd, request, strlen(request));
        if (r >= 0)
                r = read_to_end(fd, &in);
        if (r >= 0)
                r = buffer_append(&in, "", 1);
        if (r < 0)
                return r;
        if (sscanf((char *) in.data, "HTTP/1.1 %u", &status) != 1)
                return -EBADMSG;
        *ret_size = in.size - 1;
        *ret = (char *) TAKE_PTR(in.data);
        return (int) status;
}

int rest_call_from(const struct sockaddr_in *api, uint32_t source, const char *verb, const char *path,
        const char *token, json_t *body, json_t **ret) {
        _cleanup_close_ int fd = connect_from(api, source);
        _cleanup_free_ char *text = body ? json_dumps(body, JSON_COMPACT) : strdup("");
        _cleanup_free_ char *request = NULL;
        _cleanup_buffer_ Buffer in = {.limit = 32U << 20};
        unsigned status;

        json_decref(body);
        if (fd < 0)
                return fd;
        request = format_string("%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s%s%s"
                                "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                verb, path, token ? "Authorization: Bearer " : "", token ?: "", token ? "\r\n" : "",
                strlen(text), text);
        if (!request)
                return -ENOMEM;
        int r = write_all(fd, request, strlen(request));
        if (r >= 0)
                r = read_to_end(fd, &in);
        if (r >= 0)
                r = buffer_append(&in, "", 1);
        if (r < 0)
                return r;
        if (sscanf((char *) in.data, "HTTP/1.1 %u", &status) != 1)
                return -EBADMSG;
        if (ret) {
                char *content = strstr((char *) in.data, "\r\n\r\n");
                if (content) {
                        *content = 0;
                        content += 4;
                        if (strcasestr((char *) in.data, "\nTransfer-Encoding: chunked") &&
                                join_chunks(content) < 0)
                                return -EBADMSG;
                }
                *ret = content ? json_loads(content, 0, NULL) : NULL;
        }
        return (int) status;
}

int client_connect(Client *client, const struct sockaddr_in *address) {
        return client_connect_from(client, address, 0);
}

int client_connect_from(Client *client, const struct sockaddr_in *address, uint32_t source) {
        static const char upgrade[] =
                "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\n"
                "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        _cleanup_close_ int fd = connect_from(address, source);

        if (fd < 0)
                return fd;
        int r = write_all(fd, upgrade, sizeof(upgrade) - 1);
        if (r < 0)
                return r;
        client->fd = TAKE_FD(fd);
        return 0;
}

int client_send(Client *client, const char *text, size_t size) {
        uint8_t head[14] = {0x81};
        size_t n = 2;

        if (size < 126)
                head[1] = (uint8_t) (0x80 | size);
        else if (size <= UINT16_MAX) {
                head[1] = 0x80 | 126;
                head[2] = (uint8_t) (size >> 8);
                head[3] = (uint8_t) size;
                n = 4;
        } else {
                head[1] = 0x80 | 127;
                for (unsigned i = 0; i < 8; i++)
                        head[2 + i] = (uint8_t) ((uint64_t) size >> 8 * (7 - i));
                n = 10;
        }
        /* Masked, as a client must, with the mask 0: the payload goes as it is. */
        memset(head + n, 0, 4);
        (void) buffer_append(&client->out, head, n + 4);
        return buffer_append(&client->out, text, size);
}

int client_flush(Client *client) {
        /* A client waits for the answer to its upgrade before it sends frames. */
        while (client->open && client->out.size > 0) {
                ssize_t n =
                        send(client->fd, client->out.data, client->out.size, MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n < 0 && errno == EAGAIN)
                        return 1;
                if (n < 0)
                        return -errno;
                buffer_consume(&client->out, (size_t) n);
        }
        return 0;
}

/* Takes one frame off the front of the data: its size with head, or 0 if it is not whole yet. */
static size_t find_frame(
        const Buffer *in, size_t at, unsigned *ret_opcode, char **ret_payload, size_t *ret_size) {
        const uint8_t *p = in->data + at;
        size_t left = in->size - at, head = 2, size;

        if (left < 2)
                return 0;
        size = p[1] & 0x7f;
        if (size == 126) {
                if (left < 4)
                        return 0;
                size = (size_t) p[2] << 8 | p[3];
                head = 4;
        } else if (size == 127) {
                if (left < 10)
                        return 0;
                size = 0;
                for (unsigned i = 2; i < 10; i++)
                        size = size << 8 | p[i];
                head = 10;
        }
        if (left < head + size)
                return 0;
        *ret_opcode = p[0] & 0x0f;
        *ret_payload = (char *) in->data + at + head;
        *ret_size = size;
        return head + size;
}

static int take_upgrade(Client *client) {
        if (client->in.size < 4)
                return 0;
        uint8_t *end = memmem(client->in.data, client->in.size, "\r\n\r\n", 4);
        if (!end)
                return 0;
        if (client->in.size < 12 || memcmp(client->in.data + 9, "101", 3) != 0)
                return -ECONNREFUSED;
        buffer_consume(&client->in, (size_t) (end + 4 - client->in.data));
        client->open = true;
        return 0;
}

static int take_messages(Client *client,
        void (*line)(Client *client, char *text, size_t size, void *userdata), void *userdata) {
        size_t at = 0, n, size;
        unsigned opcode;
        char *payload;

        while ((n = find_frame(&client->in, at, &opcode, &payload, &size)) > 0) {
                at += n;
                if (opcode == 8) {
                        if (size >= 2)
                                client->close_code =
                                        (uint16_t) ((uint8_t) payload[0] << 8 | (uint8_t) payload[1]);
                        return -ECONNRESET;
                }
                if (opcode != 1)
                        continue;
                for (char *end = payload + size; payload < end;) {
                        char *newline = memchr(payload, '\n', (size_t) (end - payload)) ?: end;
                        line(client, payload, (size_t) (newline - payload), userdata);
                        payload = newline + 1;
                }
        }
        buffer_consume(&client->in, at);
        return 0;
}

int client_receive(Client *client, void (*line)(Client *client, char *text, size_t size, void *userdata),
        void *userdata) {
        for (;;) {
                uint8_t *end = buffer_reserve(&client->in, 16384 + 1); /* who looks at a line may end it */
                if (!end)
                        return client->in.error;
                ssize_t n = recv(client->fd, end, 16384, MSG_DONTWAIT);
                if (n < 0 && errno == EAGAIN)
                        return 0;
                if (n <= 0)
                        return n < 0 ? -errno : -ECONNRESET;
                buffer_commit(&client->in, (size_t) n);
                int r = client->open ? 0 : take_upgrade(client);
                if (r >= 0 && client->open)
                        r = take_messages(client, line, userdata);
                if (r < 0)
                        return r;
                if ((size_t) n < 16384)
                        return 0;
        }
}

void client_done(Client *client) {
        client->fd = safe_close(client->fd);
        buffer_done(&client->in);
        buffer_done(&client->out);
}
