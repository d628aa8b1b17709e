/* SPDX-License-Identifier: Apache-2.0 */

/* Runs a fuzz target over every file of a folder: what fuzzing once found stays found. */

#include <dirent.h>
#include <stdio.h>

#include "util/fd-util.h"
#include "util/string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char *argv[]) {
        unsigned n_files = 0;

        assert_se(argc == 2);
        DIR *dir = opendir(argv[1]);
        assert_se(dir);
        for (struct dirent *entry; (entry = readdir(dir));) {
                _cleanup_free_ char *path = NULL, *content = NULL;
                size_t size;

                if (entry->d_name[0] == '.')
                        continue;
                assert_se(path = format_string("%s/%s", argv[1], entry->d_name));
                assert_se(read_file(path, 16U << 20, &content, &size) == 0);
                /* A copy of the exact size, so that AddressSanitizer sees the first byte read beyond. */
                _cleanup_free_ uint8_t *exact = malloc(size ?: 1);
                assert_se(exact);
                memcpy(exact, content, size);
                LLVMFuzzerTestOneInput(exact, size);
                n_files++;
        }
        closedir(dir);
        printf("%u inputs\n", n_files);
        return n_files == 0;
}
