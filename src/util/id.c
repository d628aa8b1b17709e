/* SPDX-License-Identifier: Apache-2.0 */
#include "util/id.h"

#include <endian.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>

#include "util/string-util.h"
#include "util/time-util.h"

static void uuid_format(uint8_t b[static 16], unsigned version, char out[static UUID_TEXT_SIZE]) {
        char hex[33];

        b[6] = (uint8_t) ((b[6] & 0x0f) | version << 4);
        b[8] = (uint8_t) ((b[8] & 0x3f) | 0x80);
        hex_encode(b, 16, hex);
        snprintf(out, UUID_TEXT_SIZE, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16,
                hex + 20);
}

void uuid_v7(char out[static UUID_TEXT_SIZE]) {
        uint64_t msec = (uint64_t) unix_msec();
        uint8_t b[16];

        unique_bytes(b, sizeof(b));
        for (unsigned i = 0; i < 6; i++)
                b[i] = (uint8_t) (msec >> (40 - 8 * i));
        uuid_format(b, 7, out);
}

void uuid_from_name(const char *space, const char *name, char out[static UUID_TEXT_SIZE]) {
        crypto_generichash_state state;
        uint8_t b[16];

        crypto_generichash_init(&state, NULL, 0, sizeof(b));
        crypto_generichash_update(&state, (const uint8_t *) space, strlen(space) + 1);
        crypto_generichash_update(&state, (const uint8_t *) name, strlen(name));
        crypto_generichash_final(&state, b, sizeof(b));
        uuid_format(b, 8, out);
}

void uuid_of_direct(const char *a, const char *b, char out[static UUID_TEXT_SIZE]) {
        bool ordered = strcmp(a, b) <= 0;
        const char *first = ordered ? a : b, *second = ordered ? b : a;
        crypto_generichash_state state;
        uint8_t hash[16];

        /* uuid_from_name("direct", "FIRST SECOND") without the room for the name. */
        crypto_generichash_init(&state, NULL, 0, sizeof(hash));
        crypto_generichash_update(&state, (const uint8_t *) "direct", sizeof("direct"));
        crypto_generichash_update(&state, (const uint8_t *) first, strlen(first));
        crypto_generichash_update(&state, (const uint8_t *) " ", 1);
        crypto_generichash_update(&state, (const uint8_t *) second, strlen(second));
        crypto_generichash_final(&state, hash, sizeof(hash));
        uuid_format(hash, 8, out);
}

void random_bytes(void *out, size_t n) {
        randombytes_buf(out, n);
}

void unique_bytes(void *out, size_t n) {
        static _Thread_local uint8_t supply[512];
        static _Thread_local size_t left;

        assert_se(n <= sizeof(supply));
        if (left < n) {
                random_bytes(supply, sizeof(supply));
                left = sizeof(supply);
        }
        left -= n;
        memcpy(out, supply + left, n);
}

unsigned shard_of(const char *conversation, unsigned n_shards) {
        static const uint8_t key[crypto_shorthash_KEYBYTES];
        uint64_t hash;

        if (*conversation == '#')
                conversation++;
        crypto_shorthash((uint8_t *) &hash, (const uint8_t *) conversation, strlen(conversation), key);
        return (unsigned) (le64toh(hash) % n_shards);
}
