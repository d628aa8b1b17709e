/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Users, and what proves who one is: registration, profiles, passwords.
 *
 * All records of a user lie in the partition of his id. User names are unique without regard to case: they
 * are stored, and looked up, with ASCII capitals made small. */

#include "api/account/password.h"
#include "api/role-state.h"

/* The folded user name, in the call's arena; NULL when that is exhausted. */
char *account_fold_username(Call *call, const char *username);

/* The user with this id, or this folded name: 1, and *ret lives in the call's arena; or 0, there is none.
 * May suspend. */
int account_get(Call *call, const char *id, Sc__User **ret);
int account_find(Call *call, const char *username, Sc__User **ret);

/* Is this the user's password? 0; or -EKEYREJECTED if not, or if there is no such user (NULL), which takes as
 * long. `known`: it comes from where the user signed in before. A hash of another cost than the configured one
 * is replaced. Wipes the password. May suspend. */
int account_check_password(Call *call, const Sc__User *user, bool known, char *password);
