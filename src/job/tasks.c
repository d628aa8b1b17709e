/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "job/job.h"
#include "log/log.h"
#include "log/message-ids.h"
#include "schema-tables.h"

/* Sessions deleted by one call, so few that it does not delay the calls of users. */
#define PURGE_BATCH 500U
/* How many calls in a row may delete nothing, because each session was changed at that moment. */
#define PURGE_MAX_EMPTY 10U
#define RESPONSE_ARENA (1U << 20)

static int purge_batch(Job *job, uint32_t *ret_deleted, bool *ret_more) {
        Sc__SessionPurgeRequest request = SC__SESSION_PURGE_REQUEST__INIT;
        _cleanup_arena_ Arena arena;
        ProtobufCMessage *message;

        arena_init(&arena, RESPONSE_ARENA);
        request.limit = PURGE_BATCH;
        int r = job_call(job, &method_session_purge, &request.base, &arena, &message);
        if (r < 0)
                return r;
        const Sc__SessionPurgeResponse *response = (const Sc__SessionPurgeResponse *) message;
        *ret_deleted = response->deleted;
        *ret_more = response->more;
        return 0;
}

static int purge_expired_sessions(Job *job) {
        uint64_t deleted = 0;
        unsigned n_empty = 0;
        bool more = true;

        while (more) {
                uint32_t n;

                int r = purge_batch(job, &n, &more);
                if (r < 0)
                        return r;
                deleted += n;
                n_empty = n > 0 ? 0 : n_empty + 1;
                if (more && n_empty > PURGE_MAX_EMPTY)
                        return log_error_errno(-EREMOTEIO,
                                "The api role deletes nothing and says that there is more to delete.");
        }
        log_with((.message_id = MESSAGE_ID_SESSIONS_PURGED, .trace = &job->trace), LOG_INFO,
                "Deleted %" PRIu64 " expired sessions.", deleted);
        return 0;
}

/* 1 if the store is damaged. */
static int check_store(Job *job, const MethodInfo *method, const char *store) {
        Sc__StoreCheckRequest request = SC__STORE_CHECK_REQUEST__INIT;
        _cleanup_arena_ Arena arena;
        ProtobufCMessage *message;

        arena_init(&arena, RESPONSE_ARENA);
        int r = job_call(job, method, &request.base, &arena, &message);
        if (r < 0)
                return r;
        const Sc__StoreCheckResponse *response = (const Sc__StoreCheckResponse *) message;
        for (size_t i = 0; i < response->n_findings; i++)
                log_with((.trace = &job->trace), LOG_ERR, "%s: %s", store, response->findings[i]);
        if (!response->ok) {
                log_with((.message_id = MESSAGE_ID_STORE_INTEGRITY_FAILED, .trace = &job->trace), LOG_ERR,
                        "The store %s is damaged: the check reports %zu findings.", store,
                        response->n_findings);
                return 1;
        }
        log_with((.message_id = MESSAGE_ID_STORE_INTEGRITY_OK, .trace = &job->trace), LOG_INFO,
                "The store %s is in order (%" PRIu64 " pages).", store, response->pages);
        return 0;
}

/* Both are checked, whatever the first one's result. */
static int check_integrity(Job *job) {
        int accounts = check_store(job, &method_accounts_check, "accounts");
        int conversations = check_store(job, &method_conversations_check, "conversations");

        return accounts < 0 ? accounts : conversations < 0 ? conversations : MAX(accounts, conversations);
}

static int retry_intents_of(Job *job, const MethodInfo *method, const char *store) {
        Sc__RetryIntentsRequest request = SC__RETRY_INTENTS_REQUEST__INIT;
        _cleanup_arena_ Arena arena;
        ProtobufCMessage *message;

        arena_init(&arena, RESPONSE_ARENA);
        int r = job_call(job, method, &request.base, &arena, &message);
        if (r < 0)
                return r;
        const Sc__RetryIntentsResponse *response = (const Sc__RetryIntentsResponse *) message;
        log_with((.trace = &job->trace), LOG_INFO, "Intents of %s that were parked and are sent again: %u.",
                store, response->retried);
        return 0;
}

/* Both roles are asked, whatever the first one says. */
static int retry_intents(Job *job) {
        int accounts = retry_intents_of(job, &method_accounts_retry_intents, "accounts");
        int conversations = retry_intents_of(job, &method_conversations_retry_intents, "conversations");

        return accounts < 0 ? accounts : conversations;
}

const JobTask job_tasks[] = {
        {"expired-sessions", "Delete sessions whose refresh token has expired", purge_expired_sessions},
        {"integrity-check", "Check the integrity of the stores accounts and conversations", check_integrity},
        {"retry-intents", "Send again what other roles refused for good (parked intents)", retry_intents},
        {},
};
