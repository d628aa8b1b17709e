/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Certificates for tests, made while they run. */

#include <stdbool.h>
#include <stdint.h>

typedef struct Certificate {
        char *certificate, *key; /* PEM */
} Certificate;

typedef struct CertificateWish {
        const char *name; /* common name */
        const char *dns, *ip; /* alternative names; NULL: none */
        const Certificate *issuer; /* NULL: signed by itself */
        bool ca;
        int64_t not_before, not_after; /* seconds from now; 0: an hour ago, in an hour */
} CertificateWish;

/* Ends the process when it cannot. */
Certificate certificate_make(const CertificateWish *wish);
void certificate_done(Certificate *certificate);
