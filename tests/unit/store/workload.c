/* SPDX-License-Identifier: Apache-2.0 */
#include "workload.h"

#include <stdio.h>

static Sc__Message make_message(unsigned i, char name[static 8], char id[static 8]) {
        snprintf(name, 8, "c%u", i % WORKLOAD_CONVERSATIONS);
        snprintf(id, 8, "m%u", i);
        return fixture_message(name, "sender", id, "some text of a message");
}

/* One try: true when it is acknowledged. */
static bool send_message(Workload *w, Fixture *f, unsigned i) {
        uint64_t *last_seq = &w->last_seq[i % WORKLOAD_CONVERSATIONS];
        char name[8], id[8];
        Sc__Message message = make_message(i, name, id);

        Appended a = fixture_append(f, name, *last_seq, (Sc__Message *[]){&message}, 1);
        if (a.r == 0) {
                assert_false(a.results[0].conflict);
                w->acknowledged[i] = a.results[0].seq;
                *last_seq = a.last_seq;
                return true;
        }
        w->n_failures++;
        /* Only a write that was not reported as done can have moved the conversation. */
        if (a.r == -ESTALE) {
                assert_true(a.last_seq > *last_seq);
                *last_seq = a.last_seq;
        } else
                assert_true(a.r == -EIO || a.r == -ENOSPC || a.r == -ENOMEM);
        return false;
}

static bool open_store(Workload *w, Fixture *f, unsigned max_tries) {
        for (unsigned try = 0; try < max_tries; try++) {
                int r = fixture_open(f, NULL);
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
                n_stored += fixture_count_messages(f, name);
        }
        assert_in_range(n_stored, n_acknowledged, WORKLOAD_MESSAGES);
}
