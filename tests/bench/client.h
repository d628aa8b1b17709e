/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The smallest clients that a load generator needs, for a server on this machine: blocking REST calls for
 * the set-up, and a non-blocking WebSocket that costs as little as possible (zero mask, no allocation a
 * message). */

#include <jansson.h>
#include <netinet/in.h>
#include <stdbool.h>

#include "util/bytes.h"

/* "127.0.0.1:8080"; only loopback is taken. -EINVAL, or -EPERM for another address. */
int parse_endpoint(const char *text, struct sockaddr_in *ret);

/* One request on a connection of its own; body may be NULL. Answers the HTTP status, or a negative errno;
 * ret (the JSON body) may be NULL. */
int rest_call(const struct sockaddr_in *api, const char *verb, const char *path, const char *token,
        json_t *body, json_t **ret);
/* The same from that loopback address (in host order, 0: any): so that limits on one address see many. */
int rest_call_from(const struct sockaddr_in *api, uint32_t source, const char *verb, const char *path,
        const char *token, json_t *body, json_t **ret);

/* The whole answer to a GET as it came, head and all, NUL behind it; answers as rest_call(). */
int rest_read(const struct sockaddr_in *api, uint32_t source, const char *path, const char *token,
        char **ret, size_t *ret_size);

/* A connected socket, without Nagle's delay. */
int connect_from(const struct sockaddr_in *address, uint32_t source);

typedef struct Client {
        int fd;
        unsigned index;
        uint16_t close_code; /* of the close frame, when the server has sent one */
        Buffer in, out;
        bool open; /* the upgrade was answered */
        bool wants_write;
} Client;

/* Connects and sends the upgrade; the answer is read by client_receive(). */
int client_connect(Client *client, const struct sockaddr_in *socket);
int client_connect_from(Client *client, const struct sockaddr_in *socket, uint32_t source);
/* Queues a text message. */
int client_send(Client *client, const char *text, size_t size);
/* Writes what is queued: 0, or 1 if the socket is full. */
int client_flush(Client *client);
/* Reads what is there and hands over each line of each message; negative when the connection ended. */
int client_receive(Client *client, void (*line)(Client *client, char *text, size_t size, void *userdata),
        void *userdata);
void client_done(Client *client);
