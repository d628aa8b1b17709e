/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Appending to conversations: between the sequence logic, the store, and those who wait for an answer. */

#include "group/conversation/conversation.h"

/* An entry on its way to the store, made by whoever appends, who keeps it alive until settled() is called; it
 * is called exactly once, from the loop or from within append_submit() when it is refused at once. By then
 * the entry, if it is new, is delivered. */
typedef struct Append Append;
struct Append {
        SequenceItem item; /* item.message, its content and the followers live as long */
        Conversation *conversation; /* pinned by append_submit() */
        size_t size; /* of the body */
        Trace trace;
        /* r: 0 (then the item says the place, or duplicate, or conflict), -ENOBUFS: too much waits, or the
         * store's error. */
        void (*settled)(Append *append, int r);
        void *userdata;
};

/* The conversation must be loaded. The item's message and followers, size, trace and settled are filled in. */
void append_submit(Append *append, Conversation *conversation);

/* The same on a fiber, without `settled`: waits for the outcome, whatever cancels the fiber, and answers what
 * settled() would be told. May suspend. */
int append_wait(Append *append, Conversation *conversation);
