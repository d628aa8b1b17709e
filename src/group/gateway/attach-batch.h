/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A batch of connections that are attached together: what they need of the store is read for all of them at
 * once, and a conversation that many of them hear is loaded, and told of, once. */

#include <sys/queue.h>

#include "group/conversation/conversation.h"

/* Inbox entries of all clients of a batch that are read at once; shared among the users, the rest is on
 * further pages. The answer takes some 90 bytes a conversation. */
#define ATTACH_MAX_ENTRIES 8192U
#define ATTACH_MIN_PAGE 32U /* of one user, whatever the number of users */
#define ATTACH_MAX_PAGE 2048U

typedef struct AttachPage AttachPage;

typedef struct AttachClient {
        const Sc__AttachRequest__Client *request;
        uint64_t serial; /* of its registration */
        AttachPage *page; /* of its user's conversations */
        Sc__ErrorCode error;
        const char *detail;
} AttachClient;

typedef struct AttachBatch {
        Call *call; /* in whose arena all of this is */
        GroupRole *role;
        AttachClient *clients;
        size_t n_clients;
        AttachPage *pages;
        size_t n_pages;
        Conversation **conversations; /* of all pages, each once, pinned */
        size_t n_conversations;
        Sc__AttachResponse response;
        TAILQ_ENTRY(AttachBatch) entry; /* while it waits */
} AttachBatch;

/* Refuses one client; the others go on. The detail is not copied. */
void attach_client_fail(AttachClient *client, Sc__ErrorCode error, const char *detail);

/* On a fiber: subscribes the users, and finds how far their conversations have come. The response is true of
 * the moment in which this returns: what was pushed before is in it, what is pushed later is not. */
int attach_batch_run(AttachBatch *batch);

/* Answers the call, with this error or the response, and forgets whoever was not attached. */
void attach_batch_end(AttachBatch *batch, int r);
