/* SPDX-License-Identifier: Apache-2.0 */

/* The methods that the api role owns (proto/): each brings its call to the accounts. */

#include "api/api-role.h"
#include "service-handlers.h"

static Accounts *accounts_of(const Call *call) {
        const Api *api = call->role;
        return api->accounts;
}

void handle_auth_register(Call *call, const Sc__RegisterRequest *request) {
        accounts_register(accounts_of(call), call, request);
}

void handle_auth_login(Call *call, const Sc__LoginRequest *request) {
        accounts_login(accounts_of(call), call, request);
}

void handle_auth_refresh(Call *call, const Sc__RefreshRequest *request) {
        accounts_refresh(accounts_of(call), call, request);
}

void handle_auth_logout(Call *call, _unused_ const Sc__LogoutRequest *request) {
        accounts_logout(accounts_of(call), call);
}

void handle_user_me(Call *call, _unused_ const Sc__MeRequest *request) {
        accounts_me(accounts_of(call), call);
}

void handle_user_get(Call *call, const Sc__UserGetRequest *request) {
        accounts_get_user(accounts_of(call), call, request->user);
}

void handle_user_lookup(Call *call, const Sc__UserLookupRequest *request) {
        accounts_lookup_user(accounts_of(call), call, request->username);
}

void handle_session_check(Call *call, const Sc__SessionCheckRequest *request) {
        accounts_answer_session_check(accounts_of(call), call, request);
}

void handle_session_purge(Call *call, const Sc__SessionPurgeRequest *request) {
        accounts_purge_sessions(accounts_of(call), call, request->limit);
}

void handle_accounts_check(Call *call, _unused_ const Sc__StoreCheckRequest *request) {
        accounts_check_store(accounts_of(call), call);
}
