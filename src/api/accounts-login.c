/* SPDX-License-Identifier: Apache-2.0 */

/* Registration and login. */

#include "api/accounts-internal.h"
#include "schema-tables.h"
#include "util/id.h"
#include "util/string-util.h"
#include "util/time-util.h"

static PasswordCost password_cost(const Accounts *accounts) {
        return (PasswordCost){
                .memory = accounts->config.conf->auth_hash_memory,
                .operations = accounts->config.conf->auth_hash_operations,
        };
}

/* The request is ours until the call is answered; its password is needed no longer. */
static void wipe(char *secret) {
        sodium_memzero(secret, strlen(secret));
}

/* --- registration: is the name free? → hash → insert --- */

typedef struct Registration { /* in the call's arena */
        Accounts *accounts;
        Call *call;
        const Sc__RegisterRequest *request;
        Sc__User user;
} Registration;

static void on_registered(int r, size_t failed, void *userdata) {
        Registration *registration = userdata;
        Call *call = registration->call;
        Sc__RegisterResponse response = SC__REGISTER_RESPONSE__INIT;

        accounts_note_write(registration->accounts, r);
        if (r == -EEXIST) { /* somebody was faster */
                call_fail(call, ERROR_USERNAME_TAKEN, "username: taken");
                return;
        }
        if (r < 0) {
                call_fail_errno(call, r, "store the account");
                return;
        }
        registration->accounts->n_registrations++;
        log_trace(&call->trace, (.method = call->method->name, .user = registration->user.id),
                "Account created");
        response.user = &registration->user;
        call_return(call, &response.base);
}

static void on_registration_hashed(int r, const char *hash, void *userdata) {
        Registration *registration = userdata;
        Sc__Credential credential = SC__CREDENTIAL__INIT;

        if (r < 0) {
                call_fail_errno(registration->call, r, "hash the password");
                return;
        }
        credential.user = registration->user.id;
        credential.password_hash = (char *) hash;
        credential.version = 1;
        registration->user.created_at = unix_msec();
        /* The user, with its unique name, last: a credential alone opens nothing. */
        const StoreWrite writes[] = {
                {STORE_INSERT, &sc__credential__info, &credential.base},
                {STORE_INSERT, &sc__user__info, &registration->user.base},
        };
        r = store_write(registration->accounts->config.store, writes, ELEMENTSOF(writes), on_registered,
                registration);
        if (r < 0)
                call_fail_errno(registration->call, r, "store the account");
}

static void on_name_looked_up(int r, const StoreRows *rows, size_t n, void *userdata) {
        Registration *registration = userdata;
        Accounts *accounts = registration->accounts;

        if (r < 0) {
                call_fail_errno(registration->call, r, "look up the user name");
                return;
        }
        if (rows[0].n > 0) {
                call_fail(registration->call, ERROR_USERNAME_TAKEN, "username: taken");
                return;
        }
        r = password_hash(accounts->config.hasher, registration->request->password, password_cost(accounts),
                on_registration_hashed, registration);
        wipe(registration->request->password);
        if (r < 0)
                call_fail_errno(registration->call, r, "hash the password");
}

void accounts_register(Accounts *accounts, Call *call, const Sc__RegisterRequest *request) {
        if (!accounts->config.conf->api_registration) {
                call_fail(call, ERROR_PERMISSION_DENIED, "registration is closed on this server");
                return;
        }
        if (!accounts_pass_address(accounts, call))
                return;
        Registration *registration = arena_new(&call->arena, Registration, 1);
        char *id = arena_alloc(&call->arena, UUID_TEXT_SIZE);
        char *username = arena_strdup(&call->arena, request->username);
        if (!registration || !id || !username) {
                call_fail_errno(call, -ENOMEM, "begin the registration");
                return;
        }
        uuid_v7(id);
        accounts_fold_username(username);
        *registration = (Registration){
                .accounts = accounts,
                .call = call,
                .request = request,
                .user = SC__USER__INIT,
        };
        registration->user.id = id;
        registration->user.username = username;
        registration->user.display_name =
                isempty(request->display_name) ? request->username : request->display_name;
        registration->user.version = 1;
        int r = accounts_read_by_username(accounts, username, on_name_looked_up, registration);
        if (r < 0)
                call_fail_errno(call, r, "look up the user name");
}

/* --- login: user → credential → verify → insert a session. For an unknown user the same steps are taken.
 * --- */

typedef struct Login { /* in the call's arena */
        Accounts *accounts;
        Call *call;
        const Sc__LoginRequest *request;
        Sc__User *user; /* NULL: unknown */
        Sc__Credential *credential; /* likewise */
        Sc__Session session;
        SessionHashes hashes;
        char session_id[UUID_TEXT_SIZE];
        char refresh_token[REFRESH_TOKEN_SIZE];
} Login;

static void on_session_stored(int r, size_t failed, void *userdata) {
        Login *login = userdata;
        Accounts *accounts = login->accounts;

        accounts_note_write(accounts, r);
        if (r < 0) {
                call_fail_errno(login->call, r, "store the session");
                return;
        }
        accounts->n_logins++;
        log_trace(&login->call->trace, (.method = login->call->method->name, .user = login->user->id),
                "Signed in");
        accounts_limit_sessions(accounts, &login->call->trace, login->user->id);
        accounts_return_tokens(accounts, login->call, &login->session, login->user, login->refresh_token);
}

static void begin_session(Login *login) {
        const Conf *conf = login->accounts->config.conf;
        Sc__Session *session = &login->session;
        int64_t now = unix_msec();

        sc__session__init(session);
        uuid_v7(login->session_id);
        accounts_make_refresh_token(login->session_id, login->refresh_token, login->hashes.current);
        session->id = login->session_id;
        session->user = login->user->id;
        session->device = login->request->device;
        session->refresh_hash = (ProtobufCBinaryData){sizeof(login->hashes.current), login->hashes.current};
        session->created_at = session->used_at = now;
        session->expires_at = now + (int64_t) (conf->auth_refresh_token_usec / USEC_PER_MSEC);
        session->version = 1;
        StoreWrite write = {STORE_INSERT, &sc__session__info, &session->base};
        int r = store_write(login->accounts->config.store, &write, 1, on_session_stored, login);
        if (r < 0)
                call_fail_errno(login->call, r, "store the session");
}

static void on_rehash_stored(int r, size_t failed, void *userdata) {
        accounts_note_write(userdata, r);
        if (r < 0 && r != -ESTALE && r != -ENOENT)
                log_peer((.error_number = -r), LOG_WARNING, "Failed to store a password's new hash: %m");
}

/* The cost of hashing was changed since. Failing to keep up with it harms nobody: the next login tries
 * again. */
static void replace_hash(Login *login, const char *hash) {
        login->credential->password_hash = (char *) hash;
        StoreWrite write = {STORE_UPDATE, &sc__credential__info, &login->credential->base};
        int r = store_write(login->accounts->config.store, &write, 1, on_rehash_stored, login->accounts);
        if (r < 0)
                on_rehash_stored(r, 0, login->accounts);
}

static void on_password_verified(int r, const char *hash, void *userdata) {
        Login *login = userdata;
        Call *call = login->call;

        if (r == -EKEYREJECTED) {
                login->accounts->n_failed_logins++;
                log_peer((.trace = &call->trace, .method = call->method->name), LOG_INFO,
                        "Wrong user name or password from %s.", call->address);
                call_fail(call, ERROR_INVALID_CREDENTIALS, "%s", "");
                return;
        }
        if (r < 0) {
                call_fail_errno(call, r, "verify the password");
                return;
        }
        if (hash)
                replace_hash(login, hash);
        begin_session(login);
}

static void on_login_credential(int r, const StoreRows *rows, size_t n, void *userdata) {
        Login *login = userdata;
        Accounts *accounts = login->accounts;

        if (r >= 0 && rows[0].n > 0 && login->user) {
                login->credential = accounts_copy(&login->call->arena, rows[0].records[0]);
                if (!login->credential)
                        r = -ENOMEM;
        }
        if (r < 0) {
                call_fail_errno(login->call, r, "read the credential");
                return;
        }
        r = password_verify(accounts->config.hasher, login->request->password,
                login->credential ? login->credential->password_hash : NULL, password_cost(accounts),
                on_password_verified, login);
        wipe(login->request->password);
        if (r < 0)
                call_fail_errno(login->call, r, "verify the password");
}

static void on_login_user(int r, const StoreRows *rows, size_t n, void *userdata) {
        Login *login = userdata;
        Sc__Credential key = SC__CREDENTIAL__INIT;

        if (r >= 0 && rows[0].n > 0) {
                login->user = accounts_copy(&login->call->arena, rows[0].records[0]);
                if (!login->user)
                        r = -ENOMEM;
        }
        if (r < 0) {
                call_fail_errno(login->call, r, "look up the user");
                return;
        }
        if (login->user)
                key.user = login->user->id;
        r = store_get(
                login->accounts->config.store, &sc__credential__info, &key.base, on_login_credential, login);
        if (r < 0)
                call_fail_errno(login->call, r, "read the credential");
}

void accounts_login(Accounts *accounts, Call *call, const Sc__LoginRequest *request) {
        const Conf *conf = accounts->config.conf;

        if (!accounts_pass_address(accounts, call))
                return;
        Login *login = arena_new(&call->arena, Login, 1);
        char *username = arena_strdup(&call->arena, request->username);
        if (!login || !username) {
                call_fail_errno(call, -ENOMEM, "begin the login");
                return;
        }
        *login = (Login){.accounts = accounts, .call = call, .request = request};
        accounts_fold_username(username);
        if (!limiter_take(accounts->by_account, username, conf->api_login_account_rate,
                    conf->api_login_account_burst, boottime_usec())) {
                call_fail(call, ERROR_RATE_LIMITED, "too many tries for this account");
                return;
        }
        int r = accounts_read_by_username(accounts, username, on_login_user, login);
        if (r < 0)
                call_fail_errno(call, r, "look up the user");
}
