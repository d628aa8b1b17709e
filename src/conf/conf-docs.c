/* SPDX-License-Identifier: Apache-2.0 */

/* Used by the build: writes what follows from the configuration table.
 *
 *     conf-docs example            stonechat.conf, on standard output
 *     conf-docs manual TEMPLATE    the template with the line @KEYS@ replaced by the description of all keys
 */

#include "conf/conf.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define KEYS_LINE "@KEYS@\n"

static int write_manual(const char *template_path) {
        _cleanup_free_ char *template = NULL;

        int r = read_file(template_path, 1U << 20, &template, NULL);
        if (r < 0) {
                fprintf(stderr, "%s: %s\n", template_path, strerror(-r));
                return EXIT_FAILURE;
        }
        char *keys = strstr(template, "\n" KEYS_LINE);
        if (!keys) {
                fprintf(stderr, "%s: has no line @KEYS@\n", template_path);
                return EXIT_FAILURE;
        }
        fwrite(template, 1, (size_t) (keys + 1 - template), stdout);
        conf_write_manual(stdout);
        fputs(keys + 1 + strlen(KEYS_LINE), stdout);
        return EXIT_SUCCESS;
}

int main(int argc, char *argv[]) {
        if (argc == 2 && streq(argv[1], "example")) {
                conf_write_example(stdout);
                return EXIT_SUCCESS;
        }
        if (argc == 3 && streq(argv[1], "manual"))
                return write_manual(argv[2]);
        fprintf(stderr, "Usage: %s example | manual TEMPLATE\n", argv[0]);
        return EXIT_FAILURE;
}
