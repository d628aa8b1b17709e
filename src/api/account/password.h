/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Passwords: Argon2id by libsodium, on threads of their own with a bounded queue, because one hash takes
 * tens of milliseconds and megabytes. Copies of passwords are wiped as soon as they are used.
 *
 * A stored hash is libsodium's text: algorithm, cost, salt and hash. */

#include <sodium.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

#include "conf/conf.h"
#include "util/macro.h"

#define PASSWORD_HASH_SIZE crypto_pwhash_STRBYTES /* text, with NUL */

typedef struct PasswordHasher PasswordHasher;

typedef struct PasswordCost {
        size_t memory; /* bytes */
        unsigned long long operations; /* passes over it */
} PasswordCost;

static inline PasswordCost password_cost(const Conf *conf) {
        return (PasswordCost){.memory = conf->auth_hash_memory, .operations = conf->auth_hash_operations};
}

int password_hasher_new(PasswordHasher **ret, sd_event *event, unsigned n_threads, unsigned max_queued);
/* Finishes what is queued, for whoever still waits. */
PasswordHasher *password_hasher_free(PasswordHasher *hasher);
DEFINE_CLEANUP(PasswordHasher *, password_hasher_free);
bool password_hasher_is_alive(PasswordHasher *hasher);

/* A quarter of the places where passwords wait is kept for those who are known: strangers who guess find the
 * others taken by their like.
 *
 * Both wait, on a fiber, and wipe the password at once, also when they fail: -EBUSY when too many wait
 * already, -ENOMEM, -ECANCELED when the hasher is NULL (gone already), or what the fiber was cancelled with.
 * hash: room for the new one. */
int password_hash(
        PasswordHasher *hasher, char *password, PasswordCost cost, char hash[static PASSWORD_HASH_SIZE]);
/* 0, or -EKEYREJECTED for a wrong password. 1: it is right, but the stored hash has another cost, and should
 * be replaced by `hash`. stored NULL: there is no such user; takes as long as if there were, and ends with
 * -EKEYREJECTED. */
int password_verify(PasswordHasher *hasher, char *password, const char *stored, bool known,
        PasswordCost cost, char hash[static PASSWORD_HASH_SIZE]);

/* Overwrites it. */
static inline void password_wipe(char *password) {
        sodium_memzero(password, strlen(password));
}
DEFINE_CLEANUP(char *, password_wipe);
