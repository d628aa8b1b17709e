/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Appending to conversations: between the sequence logic, the store, and those who wait for an answer. */

#include "group/group-role.h"

/* A message on its way to the store, made by whoever appends, who keeps it alive until settled() is called;
 * it is called exactly once, from the loop or from within append() when it is refused at once. By then the
 * message, if it is new, is packed for delivery; it goes out after settled() returns. */
typedef struct Append Append;
struct Append {
        SequenceItem item; /* item.message and its content live as long */
        Conversation *conversation; /* pinned by append_submit() */
        size_t size; /* of the body */
        Trace trace;
        /* Must not push anything itself. r: 0 (then item.appended says the place, or duplicate, or
         * conflict), -ENOBUFS: too much waits, or the store's error. */
        void (*settled)(Append *append, int r);
};

/* The conversation must be loaded. `append->item.message`, size, trace and settled are filled in. */
void append_submit(Append *append, Conversation *conversation);
