/* SPDX-License-Identifier: Apache-2.0 */
#include "workload.h"

#include <stdio.h>

const MessageInfo *const workload_records[] = {
        &sc__conversation_head__info,
        &sc__message__info,
        NULL,
};

static Sc__Message make_message(unsigned i, char name[static 8], char id[static 8]) {
        snprintf(name, 8, "c%u", i % WORKLOAD_CONVERSATIONS);
        snprintf(id, 8, "m%u", i);
        return fixture_message(name, "sender", id, "some text of a message");
}

/* With what goes with a message: the conversation's head, and an intent. */
static Appended append(Fixture *f, Sc__Message *message, uint64_t last_seq) {
        static const Sc__GroupPingRequest request = SC__GROUP_PING_REQUEST__INIT;
        Sc__ConversationHead head = SC__CONVERSATION_HEAD__INIT;
        const StoreItem follower = {
                .verb = STORE_PUT, .info = &sc__conversation_head__info, .record = &head.base};
        const StoreIntent intent = {
                .target = "elsewhere", .method = &method_group_ping, .request = &request.base};

        head.conversation = message->conversation;
        head.last_seq = last_seq + 1;
        return fixture_append_all(f, &(StoreAppend){
                                             .conversation = message->conversation,
                                             .after_seq = last_seq,
                                             .entries = &message,
                                             .n = 1,
                                             .followers = &follower,
                                             .n_followers = 1,
                                             .intents = &intent,
                                             .n_intents = 1,
                                     });
}

/* One try: true when it is acknowledged. */
static bool send_message(Workload *w, Fixture *f, unsigned i) {
        uint64_t *last_seq = &w->last_seq[i % WORKLOAD_CONVERSATIONS];
        char name[8], id[8];
        Sc__Message message = make_message(i, name, id);

        Appended a = append(f, &message, *last_seq);
        if (a.r == 0) {
                assert_int_equal(a.last_seq, *last_seq + 1);
                assert_int_equal(a.last_intent, a.last_seq);
                *last_seq = w->acknowledged[i] = a.last_seq;
                return true;
        }
        w->n_failures++;
        if (a.r == -EEXIST) { /* an earlier try of which nobody knew */
                assert_int_equal(a.n_taken, 1);
                assert_string_equal(a.taken[0].client_msg_id, id);
                w->acknowledged[i] = a.taken[0].seq;
                return true;
        }
        /* Only a write that was not reported as done can have moved the conversation. */
        if (a.r == -ESTALE) {
                assert_true(a.last_seq > *last_seq);
                *last_seq = a.last_seq;
        } else
                assert_true(a.r == -EIO || a.r == -ENOSPC || a.r == -ENOMEM || a.r == -EINPROGRESS);
        return false;
}

static bool open_store(Workload *w, Fixture *f, unsigned max_tries) {
        for (unsigned try = 0; try < max_tries; try++) {
                int r = fixture_open(f, workload_records);
                if (r == 0)
                        return true;
                assert_true(r == -EIO || r == -ENOSPC || r == -ENOMEM);
                w->n_failures++;
        }
        return false;
}

void workload_run(Workload *w, Fixture *f, unsigned max_tries) {
        if (!open_store(w, f, max_tries))
                return;
        for (unsigned i = 0; i < WORKLOAD_MESSAGES; i++) {
                if (i == WORKLOAD_MESSAGES / 2) {
                        fixture_close(f);
                        if (!open_store(w, f, max_tries))
                                return;
                }
                for (unsigned try = 0; try < max_tries && !send_message(w, f, i); try++)
                        ;
        }
        fixture_close(f);
}

/* What went with the messages is as complete as they are. */
static void verify_extras(Fixture *f, const char *conversation, uint64_t n) {
        Sc__ConversationHead head = SC__CONVERSATION_HEAD__INIT;
        Sc__IntentCounter counter = SC__INTENT_COUNTER__INIT;
        Sc__Intent intent = SC__INTENT__INIT;
        const StoreRead read = {
                .info = &sc__intent__info, .from = &intent.base, .n_prefix = 1, .limit = 1000};
        _cleanup_rows_ Rows rows = {};

        head.conversation = counter.source = intent.source = (char *) conversation;
        assert_int_equal(fixture_read(f, &read, 1, &rows), 0);
        assert_int_equal(rows.n, n);
        if (n == 0)
                return;
        Sc__ConversationHead *found_head =
                (Sc__ConversationHead *) fixture_get(f, &sc__conversation_head__info, &head);
        Sc__IntentCounter *found_counter =
                (Sc__IntentCounter *) fixture_get(f, &sc__intent_counter__info, &counter);
        assert_non_null(found_head);
        assert_non_null(found_counter);
        assert_int_equal(found_head->last_seq, n);
        assert_int_equal(found_counter->number, n);
        sc__conversation_head__free_unpacked(found_head, NULL);
        sc__intent_counter__free_unpacked(found_counter, NULL);
}

void workload_verify(const Workload *w, Fixture *f) {
        uint64_t n_stored = 0, n_acknowledged = 0;
        Checked checked = fixture_check(f);

        assert_int_equal(checked.r, 0);
        assert_int_equal(checked.n_findings, 0);
        for (unsigned i = 0; i < WORKLOAD_MESSAGES; i++) {
                char name[8], id[8];
                if (w->acknowledged[i] == 0)
                        continue;
                Sc__Message key = make_message(i, name, id);
                key.seq = w->acknowledged[i];
                Sc__Message *found = (Sc__Message *) fixture_get(f, &sc__message__info, &key);
                assert_non_null(found);
                assert_string_equal(found->client_msg_id, id);
                sc__message__free_unpacked(found, NULL);
                n_acknowledged++;
        }
        for (unsigned i = 0; i < WORKLOAD_CONVERSATIONS; i++) {
                char name[8], id[8];
                make_message(i, name, id);
                uint64_t n = fixture_count_messages(f, name);
                verify_extras(f, name, n);
                n_stored += n;
        }
        assert_in_range(n_stored, n_acknowledged, WORKLOAD_MESSAGES);
}
