/* SPDX-License-Identifier: Apache-2.0 */

/* stonechat-keys VERB: makes and rotates the keys of access tokens in $STATE_DIRECTORY. The units
 * stonechat-keys.service, stonechat-keys-rotate.service and stonechat-keys-revoke.service call it. */

#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>

#include "keys/keys.h"
#include "log/log.h"
#include "log/message-ids.h"
#include "util/fd-util.h"
#include "util/string-util.h"

typedef struct Verb {
        const char *name, *help;
        int (*run)(int directory, char ret_id[static TOKEN_KEY_ID_SIZE]);
        const char *message_id;
        const char *done; /* with the key's id */
} Verb;

static const Verb verbs[] = {
        {"make", "Make the first key, unless there is one", keys_make, MESSAGE_ID_TOKEN_KEY_CREATED,
                "Made a key for access tokens: %s."},
        {"prepare", "Make the next key, which verifies from now on", keys_prepare, NULL,
                "The next key for access tokens: %s."},
        {"activate", "Sign with the next key from now on", keys_activate, MESSAGE_ID_TOKEN_KEY_ROTATED,
                "Access tokens are signed with the key %s from now on; those of the key before stay valid."},
        {"revoke", "Keep no key but the one that signs", keys_revoke, MESSAGE_ID_TOKEN_KEYS_REVOKED,
                "Access tokens are valid only if they are signed with the key %s."},
};

static void print_help(void) {
        printf("stonechat-keys VERB\n\nThe keys of access tokens, in $STATE_DIRECTORY. Units run it, see "
               "stonechat(7).\n\nVerbs:\n");
        FOREACH_ARRAY(verb, verbs, ELEMENTSOF(verbs))
                printf("  %-9s %s\n", verb->name, verb->help);
}

static int run(const Verb *verb) {
        const char *path = getenv("STATE_DIRECTORY");
        char id[TOKEN_KEY_ID_SIZE] = "";

        if (isempty(path))
                return log_error_errno(-EINVAL, "STATE_DIRECTORY is not set.");
        _cleanup_close_ int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (directory < 0)
                return log_error_errno(-errno, "Failed to open %s: %m", path);
        int r = verb->run(directory, id);
        if (r < 0)
                return log_error_errno(r, "Failed to %s keys in %s: %m", verb->name, path);
        if (verb->run == keys_make && r == 0)
                log_info("There is a key for access tokens: %s.", id);
        else
                log_with((.message_id = verb->message_id), LOG_NOTICE, verb->done, id);
        return 0;
}

int main(int argc, char *argv[]) {
        const Verb *chosen = NULL;

        log_open("stonechat-keys", LOG_INFO);
        if (argc == 2 && (streq(argv[1], "--help") || streq(argv[1], "-h"))) {
                print_help();
                return EXIT_SUCCESS;
        }
        if (argc == 2 && streq(argv[1], "--version")) {
                puts("stonechat " STONECHAT_VERSION);
                return EXIT_SUCCESS;
        }
        FOREACH_ARRAY(verb, verbs, ELEMENTSOF(verbs))
                if (argc == 2 && streq(argv[1], verb->name))
                        chosen = verb;
        if (!chosen) {
                log_error("Name one verb; see stonechat-keys --help.");
                return EXIT_FAILURE;
        }
        if (sodium_init() < 0) {
                log_error("Failed to initialise libsodium.");
                return EXIT_FAILURE;
        }
        int r = run(chosen);
        log_flush();
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
