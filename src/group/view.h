/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Conversations as one member sees them: last message, read cursor, number of unread messages. */

#include "group/group-role.h"
#include "stonechat/v1/conversations.pb-c.h"

#define VIEW_UNREAD_MAX 1000U /* counting stops there */

typedef struct ViewSource {
        Conversation *conversation; /* loaded; pinned by the caller until done */
        uint64_t read_seq; /* of the user */
} ViewSource;

/* The views are valid during the call, in the order of the sources; NULL and r < 0 when the store failed. */
typedef void (*ViewsDone)(Call *call, int r, Sc__ConversationView **views, size_t n, void *userdata);

/* Views of the call's user, with one read of the store. Memory is the call's; `sources` lives there too.
 * done is called later, or on failure here (negative) not at all. */
int views_read(Call *call, const ViewSource *sources, size_t n, ViewsDone done, void *userdata);

/* One of them is the response. Takes the pin. */
void view_return(Call *call, Conversation *conversation, uint64_t read_seq);
