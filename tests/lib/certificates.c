/* SPDX-License-Identifier: Apache-2.0 */
#include "certificates.h"

#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "util/macro.h"
#include "util/string-util.h"

#define HOUR 3600

static char *read_bio(BIO *bio) {
        char *data;
        long size = BIO_get_mem_data(bio, &data);
        char *text = strndup(data, (size_t) size);

        assert_se(size > 0 && text);
        BIO_free(bio);
        return text;
}

static char *certificate_to_pem(X509 *certificate) {
        BIO *bio = BIO_new(BIO_s_mem());

        assert_se(bio && PEM_write_bio_X509(bio, certificate) == 1);
        return read_bio(bio);
}

static char *key_to_pem(EVP_PKEY *key) {
        BIO *bio = BIO_new(BIO_s_mem());

        assert_se(bio && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
        return read_bio(bio);
}

static X509 *certificate_from_pem(const char *text) {
        BIO *bio = BIO_new_mem_buf(text, -1);
        X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);

        assert_se(certificate);
        BIO_free(bio);
        return certificate;
}

static EVP_PKEY *key_from_pem(const char *text) {
        BIO *bio = BIO_new_mem_buf(text, -1);
        EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);

        assert_se(key);
        BIO_free(bio);
        return key;
}

static void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value) {
        X509V3_CTX context;

        X509V3_set_ctx_nodb(&context);
        X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
        X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
        assert_se(extension && X509_add_ext(certificate, extension, -1) == 1);
        X509_EXTENSION_free(extension);
}

static void set_names(X509 *certificate, const CertificateWish *wish) {
        X509_NAME *name = X509_get_subject_name(certificate);
        uint64_t serial;

        assert_se(X509_NAME_add_entry_by_txt(
                          name, "CN", MBSTRING_UTF8, (const unsigned char *) wish->name, -1, -1, 0) == 1);
        assert_se(RAND_bytes((unsigned char *) &serial, sizeof(serial)) == 1);
        assert_se(ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial >> 1) == 1);
        X509_set_version(certificate, 2);
        X509_gmtime_adj(X509_getm_notBefore(certificate), wish->not_before ?: -HOUR);
        X509_gmtime_adj(X509_getm_notAfter(certificate), wish->not_after ?: HOUR);
}

static void add_extensions(X509 *certificate, X509 *issuer, const CertificateWish *wish) {
        _cleanup_free_ char *names =
                format_string("%s%s%s%s%s", wish->dns ? "DNS:" : "", strempty(wish->dns),
                        wish->dns && wish->ip ? "," : "", wish->ip ? "IP:" : "", strempty(wish->ip));

        assert_se(names);
        if (wish->ca)
                add_extension(certificate, issuer, NID_basic_constraints, "critical,CA:TRUE");
        if (*names)
                add_extension(certificate, issuer, NID_subject_alt_name, names);
}

Certificate certificate_make(const CertificateWish *wish) {
        EVP_PKEY *key = EVP_EC_gen("P-256");
        X509 *certificate = X509_new();

        assert_se(key && certificate);
        X509 *issuer = wish->issuer ? certificate_from_pem(wish->issuer->certificate) : NULL;
        EVP_PKEY *issuer_key = wish->issuer ? key_from_pem(wish->issuer->key) : NULL;
        set_names(certificate, wish);
        X509_set_issuer_name(certificate, X509_get_subject_name(issuer ?: certificate));
        X509_set_pubkey(certificate, key);
        add_extensions(certificate, issuer ?: certificate, wish);
        assert_se(X509_sign(certificate, issuer_key ?: key, EVP_sha256()) > 0);
        Certificate made = {certificate_to_pem(certificate), key_to_pem(key)};
        X509_free(issuer);
        EVP_PKEY_free(issuer_key);
        X509_free(certificate);
        EVP_PKEY_free(key);
        return made;
}

void certificate_done(Certificate *certificate) {
        free(certificate->certificate);
        free(certificate->key);
        *certificate = (Certificate){};
}
