/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Pushes of the group primaries, kept for the attachments that are under way: see attachment.c. In the order
 * in which they came, each with the serial of that moment. */

#include "socket/channel/channel.h"

/* An attachment takes milliseconds, in which far fewer pushes come. */
#define PUSH_BUFFER_MAX 65536U

/* The memory of one push when unpacked: a message of 64 KiB and its structs, with room to spare. */
#define PUSH_ARENA_LIMIT (1U << 20)

typedef struct BufferedPush BufferedPush;

typedef struct PushBuffer {
        TAILQ_HEAD(, BufferedPush) pushes;
        size_t n;
} PushBuffer;

void push_buffer_init(PushBuffer *buffer);

/* -ENOBUFS: it is full; -ENOMEM. */
int push_buffer_add_delivery(PushBuffer *buffer, uint64_t serial, Delivery *delivery);
/* `payload` is a packed MembershipChanged. */
int push_buffer_add_membership(PushBuffer *buffer, uint64_t serial, const void *payload, size_t size);

/* Drops what came at `serial` or before. */
void push_buffer_prune(PushBuffer *buffer, uint64_t serial);

/* Applies to the connection what came after `serial`: its own memberships, and the messages of the
 * conversations that it is subscribed to. Stops when the connection is disconnected. */
void push_buffer_replay(const PushBuffer *buffer, Connection *connection, uint64_t serial);
