/* SPDX-License-Identifier: Apache-2.0 */
#include "group/role-state.h"

#include "log/message-ids.h"
#include "util/time-util.h"

/* On a full disk a small write may still succeed now and then: that is no recovery yet. */
static bool store_is_full(GroupRole *role, int r) {
        uint64_t now = boottime_usec();

        if (r == -ENOSPC)
                role->store_full_usec = now;
        else if (r >= 0 && now >= role->store_full_usec + GROUP_STORE_FULL_HOLD_USEC)
                return false;
        return r == -ENOSPC || role->store_full;
}

void group_role_note_write(GroupRole *role, int r) {
        if (r != -ENOSPC && !role->store_full)
                return;
        bool full = store_is_full(role, r);
        if (full == role->store_full)
                return;
        role->store_full = full;
        if (full)
                log_with((.message_id = MESSAGE_ID_STORE_FULL, .error_number = ENOSPC), LOG_ERR,
                        "No space is left for conversations; messages are refused until there is.");
        else
                log_with((.message_id = MESSAGE_ID_STORE_RECOVERED), LOG_NOTICE,
                        "Conversations can be stored again.");
        role->ports.changed(role->ports.userdata);
}
