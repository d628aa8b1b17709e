/* SPDX-License-Identifier: Apache-2.0 */
#include "service/token.h"

#include <jwt.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "schema-tables.h"
#include "service/credential.h"
#include "util/string-util.h"

#define TOKEN_NAME "stonechat" /* issuer and audience */
#define TOKEN_TYPE "access"
#define CURVE "prime256v1" /* OpenSSL's name of P-256 */
#define COORDINATE_SIZE 32U
#define SIGNATURE_SIZE (2 * COORDINATE_SIZE) /* r and s, RFC 7518, 3.4 */
#define DER_MAX 80 /* of the same as OpenSSL has it */
#define BASE64URL sodium_base64_VARIANT_URLSAFE_NO_PADDING

static inline void pkey_freep(EVP_PKEY **key) {
        EVP_PKEY_free(*key);
}
static inline void bio_freep(BIO **bio) {
        BIO_free(*bio);
}
static inline void md_ctx_freep(EVP_MD_CTX **context) {
        EVP_MD_CTX_free(*context);
}
static inline void signature_freep(ECDSA_SIG **signature) {
        ECDSA_SIG_free(*signature);
}
static inline void number_freep(BIGNUM **number) {
        BN_free(*number);
}
static inline void jwt_freep(jwt_t **jwt) {
        if (*jwt)
                jwt_free(*jwt);
}

/* --- keys --- */

static bool is_p256(const EVP_PKEY *key) {
        char name[32];

        return EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_group_name(key, name, sizeof(name), NULL) == 1 &&
               streq(name, CURVE);
}

static int coordinate_text(const EVP_PKEY *key, const char *parameter, char out[static TOKEN_KEY_ID_SIZE]) {
        _cleanup_(number_freep) BIGNUM *number = NULL;
        uint8_t bytes[COORDINATE_SIZE];

        if (EVP_PKEY_get_bn_param(key, parameter, &number) != 1 ||
                BN_bn2binpad(number, bytes, sizeof(bytes)) != sizeof(bytes))
                return -EINVAL;
        sodium_bin2base64(out, TOKEN_KEY_ID_SIZE, bytes, sizeof(bytes), BASE64URL);
        return 0;
}

/* RFC 7638: the hash of the required members of its JWK, in this order and without blanks. */
static int thumbprint(const EVP_PKEY *key, char out[static TOKEN_KEY_ID_SIZE]) {
        char x[TOKEN_KEY_ID_SIZE], y[TOKEN_KEY_ID_SIZE], text[192];
        uint8_t hash[crypto_hash_sha256_BYTES];

        if (coordinate_text(key, OSSL_PKEY_PARAM_EC_PUB_X, x) < 0 ||
                coordinate_text(key, OSSL_PKEY_PARAM_EC_PUB_Y, y) < 0)
                return -EINVAL;
        int n = snprintf(
                text, sizeof(text), "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}", x, y);
        assert_se(n > 0 && (size_t) n < sizeof(text));
        crypto_hash_sha256(hash, (const uint8_t *) text, (size_t) n);
        sodium_bin2base64(out, TOKEN_KEY_ID_SIZE, hash, sizeof(hash), BASE64URL);
        return 0;
}

/* --- public keys --- */

struct TokenKeys {
        atomic_uint n_ref;
        size_t n;
        struct {
                EVP_PKEY *key;
                char id[TOKEN_KEY_ID_SIZE];
        } keys[TOKEN_KEYS_MAX];
};

TokenKeys *token_keys_ref(TokenKeys *keys) {
        atomic_fetch_add(&keys->n_ref, 1);
        return keys;
}

TokenKeys *token_keys_unref(TokenKeys *keys) {
        if (!keys || atomic_fetch_sub(&keys->n_ref, 1) > 1)
                return NULL;
        for (size_t i = 0; i < keys->n; i++)
                EVP_PKEY_free(keys->keys[i].key);
        free(keys);
        return NULL;
}

/* The next one; 0: there is no more. */
static int read_public(BIO *bio, TokenKeys *keys) {
        char *name, *header;
        uint8_t *data;
        long size;

        ERR_clear_error();
        if (PEM_read_bio(bio, &name, &header, &data, &size) != 1)
                return ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE ? 0 : -EINVAL;
        const uint8_t *p = data;
        _cleanup_(pkey_freep) EVP_PKEY *key =
                streq(name, PEM_STRING_PUBLIC) ? d2i_PUBKEY(NULL, &p, size) : NULL;
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_clear_free(data, (size_t) size);
        if (!key || keys->n >= TOKEN_KEYS_MAX || !is_p256(key))
                return -EINVAL;
        int r = thumbprint(key, keys->keys[keys->n].id);
        if (r < 0)
                return r;
        keys->keys[keys->n++].key = TAKE_PTR(key);
        return 1;
}

int token_keys_new(TokenKeys **ret, const char *pem, size_t size) {
        _cleanup_(token_keys_unrefp) TokenKeys *keys = new0(TokenKeys, 1);
        if (!keys)
                return -ENOMEM;
        keys->n_ref = 1;
        if (size > TOKEN_PEM_MAX)
                return -EINVAL;
        _cleanup_(bio_freep) BIO *bio = BIO_new_mem_buf(pem, (int) size);
        if (!bio)
                return -ENOMEM;
        int r;
        while ((r = read_public(bio, keys)) > 0)
                ;
        ERR_clear_error();
        if (r < 0 || keys->n == 0)
                return -EINVAL;
        *ret = TAKE_PTR(keys);
        return 0;
}

int token_keys_load(TokenKeys **ret) {
        _cleanup_free_ char *pem = NULL;
        size_t size;

        int r = credential_read(TOKEN_PUBLIC_CREDENTIAL, TOKEN_PEM_MAX, &pem, &size);
        return r < 0 ? r : token_keys_new(ret, pem, size);
}

static EVP_PKEY *find_key(const TokenKeys *keys, const char *id) {
        for (size_t i = 0; i < keys->n; i++)
                if (streq(keys->keys[i].id, id))
                        return keys->keys[i].key;
        return NULL;
}

bool token_keys_has(const TokenKeys *keys, const char *key_id) {
        return find_key(keys, key_id);
}

static uint32_t number_of(const char id[static TOKEN_KEY_ID_SIZE]) {
        uint32_t number;

        memcpy(&number, id, sizeof(number));
        return number;
}

bool token_keys_has_number(const TokenKeys *keys, uint32_t number) {
        for (size_t i = 0; i < keys->n; i++)
                if (number_of(keys->keys[i].id) == number)
                        return true;
        return false;
}

/* --- verifying --- */

/* r and s side by side → the DER that OpenSSL checks. */
static int signature_to_der(const uint8_t raw[static SIGNATURE_SIZE], uint8_t der[static DER_MAX]) {
        _cleanup_(signature_freep) ECDSA_SIG *signature = ECDSA_SIG_new();
        _cleanup_(number_freep) BIGNUM *r = BN_bin2bn(raw, COORDINATE_SIZE, NULL);
        _cleanup_(number_freep) BIGNUM *s = BN_bin2bn(raw + COORDINATE_SIZE, COORDINATE_SIZE, NULL);

        if (!signature || !r || !s || ECDSA_SIG_set0(signature, r, s) != 1)
                return -ENOMEM;
        TAKE_PTR(r);
        TAKE_PTR(s);
        return i2d_ECDSA_SIG(signature, &der);
}

/* `text`: header and claims, as they stand in the token. */
static bool signature_is_good(EVP_PKEY *key, const char *text, size_t size, const char *signature) {
        _cleanup_(md_ctx_freep) EVP_MD_CTX *context = EVP_MD_CTX_new();
        uint8_t raw[SIGNATURE_SIZE], der[DER_MAX];
        size_t n;

        if (sodium_base642bin(raw, sizeof(raw), signature, strlen(signature), NULL, &n, NULL, BASE64URL) !=
                        0 ||
                n != sizeof(raw))
                return false;
        int der_size = signature_to_der(raw, der);
        bool good = context && der_size > 0 &&
                    EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
                    EVP_DigestVerify(context, der, (size_t) der_size, (const uint8_t *) text, size) == 1;
        ERR_clear_error();
        return good;
}

static bool copy_claim(jwt_t *jwt, const char *name, char *out, size_t size) {
        const char *value = jwt_get_grant(jwt, name);

        return value && (size_t) snprintf(out, size, "%s", value) < size;
}

static bool claim_is(jwt_t *jwt, const char *name, const char *expected) {
        const char *value = jwt_get_grant(jwt, name);

        return value && streq(value, expected);
}

/* The key that a token names, if its header is as ours are. */
static EVP_PKEY *key_of(const TokenKeys *keys, jwt_t *jwt) {
        const char *algorithm = jwt_get_header(jwt, "alg"), *id = jwt_get_header(jwt, "kid");

        return algorithm && streq(algorithm, "ES256") && id ? find_key(keys, id) : NULL;
}

/* Is it one of ours whose key is not in force any more? Or of 0.2, which signed otherwise and named no key. */
static bool key_is_gone(const TokenKeys *keys, jwt_t *jwt) {
        const char *algorithm = jwt_get_header(jwt, "alg"), *id = jwt_get_header(jwt, "kid");

        if (!algorithm)
                return false;
        return streq(algorithm, "ES256") ? id && !find_key(keys, id) : streq(algorithm, "HS256") && !id;
}

Sc__ErrorCode token_verify(const TokenKeys *keys, const char *token, int64_t now, TokenClaims *ret) {
        _cleanup_(jwt_freep) jwt_t *jwt = NULL;
        TokenClaims claims = {};

        if (strlen(token) > TOKEN_MAX_SIZE)
                return ERROR_UNAUTHENTICATED;
        const char *dot = strrchr(token, '.');
        /* Without a key libjwt checks nothing and only reads. */
        if (!dot || jwt_decode(&jwt, token, NULL, 0) != 0)
                return ERROR_UNAUTHENTICATED;
        if (!claim_is(jwt, "iss", TOKEN_NAME) || !claim_is(jwt, "aud", TOKEN_NAME) ||
                !claim_is(jwt, "typ", TOKEN_TYPE))
                return ERROR_UNAUTHENTICATED;
        /* Whoever has it is to fetch a new one. For a token that is refused for good, SDKs would stay away. */
        if (key_is_gone(keys, jwt))
                return ERROR_TOKEN_EXPIRED;
        EVP_PKEY *key = key_of(keys, jwt);
        if (!key || !signature_is_good(key, token, (size_t) (dot - token), dot + 1))
                return ERROR_UNAUTHENTICATED;
        if (!copy_claim(jwt, "sub", claims.user, sizeof(claims.user)) || !*claims.user ||
                !copy_claim(jwt, "sid", claims.session, sizeof(claims.session)) ||
                !copy_claim(jwt, "dev", claims.device, sizeof(claims.device)))
                return ERROR_UNAUTHENTICATED;
        claims.key = number_of(jwt_get_header(jwt, "kid")); /* that of a key of ours */
        claims.expires_at = jwt_get_grant_int(jwt, "exp");
        if (claims.expires_at <= now)
                return ERROR_TOKEN_EXPIRED;
        *ret = claims;
        return ERROR_NONE;
}

/* --- signing --- */

struct TokenSigner {
        EVP_PKEY *key;
        char id[TOKEN_KEY_ID_SIZE];
};

static int read_private(const char *pem, size_t size, EVP_PKEY **ret) {
        if (size > TOKEN_PEM_MAX)
                return -EINVAL;
        _cleanup_(bio_freep) BIO *bio = BIO_new_mem_buf(pem, (int) size);
        if (!bio)
                return -ENOMEM;
        /* The empty pass phrase: OpenSSL would ask the terminal for one. */
        _cleanup_(pkey_freep) EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *) "");
        ERR_clear_error();
        if (!key || !is_p256(key))
                return -EINVAL;
        *ret = TAKE_PTR(key);
        return 0;
}

int token_signer_new(TokenSigner **ret, const char *pem, size_t size) {
        _cleanup_(token_signer_freep) TokenSigner *signer = new0(TokenSigner, 1);
        if (!signer)
                return -ENOMEM;
        int r = read_private(pem, size, &signer->key);
        if (r < 0)
                return r;
        r = thumbprint(signer->key, signer->id);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(signer);
        return 0;
}

int token_signer_load(TokenSigner **ret) {
        _cleanup_(credential_wipe_and_freep) char *pem = NULL;
        size_t size;

        int r = credential_read(TOKEN_PRIVATE_CREDENTIAL, TOKEN_PEM_MAX, &pem, &size);
        return r < 0 ? r : token_signer_new(ret, pem, size);
}

TokenSigner *token_signer_free(TokenSigner *signer) {
        if (!signer)
                return NULL;
        EVP_PKEY_free(signer->key);
        free(signer);
        return NULL;
}

const char *token_signer_key_id(const TokenSigner *signer) {
        return signer->id;
}

/* libjwt answers positive errno values. The caller frees the text. */
static int write_claims(const TokenClaims *claims, int64_t issued_at, char **ret) {
        const struct {
                const char *name, *value;
        } strings[] = {
                {"iss", TOKEN_NAME},
                {"aud", TOKEN_NAME},
                {"typ", TOKEN_TYPE},
                {"sub", claims->user},
                {"sid", claims->session},
                {"dev", claims->device},
        };
        _cleanup_(jwt_freep) jwt_t *jwt = NULL;

        int r = jwt_new(&jwt);
        for (size_t i = 0; i < ELEMENTSOF(strings) && r == 0; i++)
                r = jwt_add_grant(jwt, strings[i].name, strings[i].value);
        if (r == 0)
                r = jwt_add_grant_int(jwt, "iat", issued_at);
        if (r == 0)
                r = jwt_add_grant_int(jwt, "exp", claims->expires_at);
        if (r != 0)
                return -r;
        *ret = jwt_get_grants_json(jwt, NULL);
        return *ret ? 0 : -ENOMEM;
}

static int sign(EVP_PKEY *key, const char *text, size_t size, uint8_t raw[static SIGNATURE_SIZE]) {
        _cleanup_(md_ctx_freep) EVP_MD_CTX *context = EVP_MD_CTX_new();
        _cleanup_(signature_freep) ECDSA_SIG *signature = NULL;
        uint8_t der[DER_MAX];
        const uint8_t *p = der;
        size_t der_size = sizeof(der);

        if (!context)
                return -ENOMEM;
        bool good = EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
                    EVP_DigestSign(context, der, &der_size, (const uint8_t *) text, size) == 1;
        ERR_clear_error();
        if (!good)
                return -EIO;
        signature = d2i_ECDSA_SIG(NULL, &p, (long) der_size);
        if (!signature)
                return -ENOMEM;
        if (BN_bn2binpad(ECDSA_SIG_get0_r(signature), raw, COORDINATE_SIZE) < 0 ||
                BN_bn2binpad(ECDSA_SIG_get0_s(signature), raw + COORDINATE_SIZE, COORDINATE_SIZE) < 0)
                return -EIO;
        return 0;
}

/* Appends base64url without padding; there must be room. */
static char *append_base64(char *p, const char *end, const void *data, size_t size) {
        sodium_bin2base64(p, (size_t) (end - p), data, size, BASE64URL);
        return p + strlen(p);
}

int token_issue(const TokenSigner *signer, const TokenClaims *claims, char **ret) {
        _cleanup_free_ char *body = NULL;
        uint8_t signature[SIGNATURE_SIZE];
        char header[96];

        int r = write_claims(claims, time(NULL), &body);
        if (r < 0)
                return r;
        int header_size = snprintf(
                header, sizeof(header), "{\"alg\":\"ES256\",\"kid\":\"%s\",\"typ\":\"JWT\"}", signer->id);
        assert_se(header_size > 0 && (size_t) header_size < sizeof(header));
        size_t max = sodium_base64_encoded_len((size_t) header_size, BASE64URL) +
                     sodium_base64_encoded_len(strlen(body), BASE64URL) +
                     sodium_base64_encoded_len(sizeof(signature), BASE64URL);
        _cleanup_free_ char *token = malloc(max);
        if (!token)
                return -ENOMEM;
        char *p = append_base64(token, token + max, header, (size_t) header_size);
        *p++ = '.';
        p = append_base64(p, token + max, body, strlen(body));
        r = sign(signer->key, token, (size_t) (p - token), signature);
        if (r < 0)
                return r;
        *p++ = '.';
        append_base64(p, token + max, signature, sizeof(signature));
        *ret = TAKE_PTR(token);
        return 0;
}

/* --- making keys --- */

/* What was written into the BIO; the caller frees it. */
static int take_text(BIO *bio, char **ret) {
        char *data;
        long size = BIO_get_mem_data(bio, &data);

        if (size <= 0)
                return -ENOMEM;
        *ret = strndup(data, (size_t) size);
        return *ret ? 0 : -ENOMEM;
}

static int write_public(EVP_PKEY *key, char **ret) {
        _cleanup_(bio_freep) BIO *bio = BIO_new(BIO_s_mem());

        if (!bio || PEM_write_bio_PUBKEY(bio, key) != 1)
                return -ENOMEM;
        return take_text(bio, ret);
}

int token_key_generate(char **ret_private, char **ret_public) {
        _cleanup_(pkey_freep) EVP_PKEY *key = EVP_EC_gen(CURVE);
        _cleanup_(bio_freep) BIO *bio = BIO_new(BIO_s_secmem());
        _cleanup_(credential_wipe_and_freep) char *private_pem = NULL;

        if (!key || !bio || PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
                return -ENOMEM;
        int r = take_text(bio, &private_pem);
        if (r < 0)
                return r;
        r = write_public(key, ret_public);
        if (r < 0)
                return r;
        *ret_private = TAKE_PTR(private_pem);
        return 0;
}

int token_key_public(const char *private_pem, char **ret_public) {
        _cleanup_(pkey_freep) EVP_PKEY *key = NULL;

        int r = read_private(private_pem, strlen(private_pem), &key);
        return r < 0 ? r : write_public(key, ret_public);
}
