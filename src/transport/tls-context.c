/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/tls-context.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "util/string-util.h"

/* TLS 1.2 only with forward secrecy and an authenticated cipher; 1.3 has no others. */
#define TLS12_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20"
/* Between hosts one recv() reads so much, several records; for clients it is one record. */
#define READ_BUFFER_SIZE (64U << 10)

static void bio_freep(BIO **bio) {
        BIO_free(*bio);
}

static void certificate_freep(X509 **certificate) {
        X509_free(*certificate);
}

static void key_freep(EVP_PKEY **key) {
        EVP_PKEY_free(*key);
}

/* A key with a password must not make OpenSSL ask on a terminal. */
static int no_password(char *buffer, int size, int writing, void *userdata) {
        return -1;
}

static int problem(const char **ret, const char *text) {
        ERR_clear_error();
        if (ret)
                *ret = text;
        return -EINVAL;
}

static BIO *open_text(const char *text) {
        return BIO_new_mem_buf(text, -1);
}

/* NULL at the end of the text. */
static X509 *next_certificate(BIO *bio) {
        return PEM_read_bio_X509(bio, NULL, no_password, NULL);
}

/* The texts may end with what is no certificate, as PEM files do; half a certificate is an error. */
static bool at_end(void) {
        unsigned long error = ERR_peek_last_error();

        bool end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
        ERR_clear_error();
        return end;
}

static int use_certificate(SSL_CTX *openssl, const char *text, const char **ret_problem) {
        _cleanup_(bio_freep) BIO *bio = open_text(text);
        X509 *issuer;

        if (!bio)
                return -ENOMEM;
        _cleanup_(certificate_freep) X509 *own = next_certificate(bio);
        if (!own)
                return problem(ret_problem, "the certificate is not valid PEM");
        if (SSL_CTX_use_certificate(openssl, own) != 1)
                return problem(ret_problem, "the certificate cannot be used");
        while ((issuer = next_certificate(bio)))
                if (SSL_CTX_add0_chain_cert(openssl, issuer) != 1) {
                        X509_free(issuer);
                        return problem(ret_problem, "the certificate's chain cannot be used");
                }
        return at_end() ? 0 : problem(ret_problem, "the certificate's chain is not valid PEM");
}

static int use_key(SSL_CTX *openssl, const char *text, const char **ret_problem) {
        _cleanup_(bio_freep) BIO *bio = open_text(text);
        if (!bio)
                return -ENOMEM;
        _cleanup_(key_freep) EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
        if (!key)
                return problem(ret_problem, "the key is not valid PEM without a password");
        if (SSL_CTX_use_PrivateKey(openssl, key) != 1 || SSL_CTX_check_private_key(openssl) != 1)
                return problem(ret_problem, "the key does not belong to the certificate");
        return 0;
}

static int use_ca(SSL_CTX *openssl, const char *text, const char **ret_problem) {
        _cleanup_(bio_freep) BIO *bio = open_text(text);
        X509_STORE *store = SSL_CTX_get_cert_store(openssl);
        unsigned n = 0;

        if (!bio)
                return -ENOMEM;
        for (;; n++) {
                _cleanup_(certificate_freep) X509 *ca = next_certificate(bio);
                if (!ca)
                        break;
                /* A server tells its clients whom it trusts. */
                if (X509_STORE_add_cert(store, ca) != 1 || SSL_CTX_add_client_CA(openssl, ca) != 1)
                        return problem(ret_problem, "the CA's certificate cannot be used");
        }
        if (!at_end() || n == 0)
                return problem(ret_problem, "the CA's certificate is not valid PEM");
        return 0;
}

static int choose_protocol(_unused_ SSL *ssl, const unsigned char **ret, unsigned char *ret_size,
        const unsigned char *offered, unsigned size, void *userdata) {
        const TlsContext *context = userdata;

        return SSL_select_next_proto((unsigned char **) ret, ret_size, context->alpn, context->alpn[0] + 1U,
                       offered, size) == OPENSSL_NPN_NEGOTIATED
                       ? SSL_TLSEXT_ERR_OK
                       : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int use_protocol(TlsContext *context, const char *alpn, const char **ret_problem) {
        size_t size = strlen(alpn);

        if (size == 0 || size > ALPN_MAX)
                return problem(ret_problem, "the name of the protocol above TLS is too long");
        context->alpn[0] = (unsigned char) size;
        memcpy(context->alpn + 1, alpn, size);
        if (context->server)
                SSL_CTX_set_alpn_select_cb(context->openssl, choose_protocol, context);
        else if (SSL_CTX_set_alpn_protos(context->openssl, context->alpn, (unsigned) size + 1) != 0)
                return -ENOMEM;
        return 0;
}

static int set_up(SSL_CTX *openssl, const TlsConfig *config, const char **ret_problem) {
        if (SSL_CTX_set_min_proto_version(openssl, config->only_tls13 ? TLS1_3_VERSION : TLS1_2_VERSION) !=
                        1 ||
                SSL_CTX_set_cipher_list(openssl, TLS12_CIPHERS) != 1)
                return problem(ret_problem, "the library refuses our versions and ciphers");
        SSL_CTX_set_options(openssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                             SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
        /* What is written again after -EAGAIN may have moved, and an idle session keeps no buffers. */
        SSL_CTX_set_mode(openssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                          SSL_MODE_RELEASE_BUFFERS);
        /* Handshakes are rare and, with elliptic curves, cheap; a ticket would be good for one process only. */
        SSL_CTX_set_session_cache_mode(openssl, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_num_tickets(openssl, 0);
        SSL_CTX_set_read_ahead(openssl, 1);
        if (config->only_tls13)
                SSL_CTX_set_default_read_buffer_len(openssl, READ_BUFFER_SIZE);
        if (config->certificate) {
                int r = use_certificate(openssl, config->certificate, ret_problem);
                if (r < 0)
                        return r;
                r = use_key(openssl, config->key, ret_problem);
                if (r < 0)
                        return r;
        }
        if (!config->server || config->ca)
                SSL_CTX_set_verify(openssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        if (config->ca)
                return use_ca(openssl, config->ca, ret_problem);
        if (!config->server && SSL_CTX_set_default_verify_paths(openssl) != 1)
                return problem(ret_problem, "the system's CAs cannot be read");
        return 0;
}

int tls_context_new(TlsContext **ret, const TlsConfig *config, const char **ret_problem) {
        _cleanup_(tls_context_unrefp) TlsContext *context = NULL;

        if (config->server && !config->certificate)
                return problem(ret_problem, "a server needs a certificate");
        if (!config->certificate != !config->key)
                return problem(ret_problem, "a certificate and its key go together");
        if (!config->server && isempty(config->peer_name))
                return problem(ret_problem, "a client has to know the name of its server");
        context = new0(TlsContext, 1);
        if (!context)
                return -ENOMEM;
        context->base = (TlsContextBase){.n_ref = 1, .operations = &tls_operations};
        context->server = config->server;
        if (!isempty(config->peer_name) && !(context->peer_name = strdup(config->peer_name)))
                return -ENOMEM;
        context->openssl = SSL_CTX_new(config->server ? TLS_server_method() : TLS_client_method());
        if (!context->openssl)
                return -ENOMEM;
        int r = set_up(context->openssl, config, ret_problem);
        if (r >= 0 && config->alpn)
                r = use_protocol(context, config->alpn, ret_problem);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(context);
        return 0;
}

/* --- errors --- */

static int certificate_error(const SSL *ssl, const char **ret_text) {
        long result = SSL_get_verify_result(ssl);

        switch (result) {
        case X509_V_ERR_CERT_HAS_EXPIRED:
                *ret_text = "the peer's certificate has expired";
                return -EKEYEXPIRED;
        case X509_V_ERR_CERT_NOT_YET_VALID:
                *ret_text = "the peer's certificate is not valid yet";
                return -EKEYEXPIRED;
        case X509_V_ERR_HOSTNAME_MISMATCH:
        case X509_V_ERR_IP_ADDRESS_MISMATCH:
                *ret_text = "the peer's certificate has another name";
                return -EKEYREJECTED;
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
        case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
                *ret_text = "the peer's certificate is of another CA";
                return -EKEYREJECTED;
        default:
                *ret_text = X509_verify_cert_error_string(result);
                return -EKEYREJECTED;
        }
}

int tls_error(const SSL *ssl, const char **ret_text) {
        static const struct {
                int reason, error;
                const char *text;
        } errors[] = {
                {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, EKEYREJECTED, "the peer has no certificate"},
                /* what the peer says of us */
                {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, EKEYEXPIRED,
                        "the peer says that our certificate has expired"},
                {SSL_R_TLSV1_ALERT_UNKNOWN_CA, EKEYREJECTED,
                        "the peer says that our certificate is of another CA"},
                {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, EKEYREJECTED,
                        "the peer does not accept our certificate"},
                {SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, EKEYREJECTED,
                        "the peer does not accept our certificate"},
                {SSL_R_TLSV1_ALERT_DECRYPT_ERROR, EKEYREJECTED, "the peer does not accept our certificate"},
                {SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED, EKEYREJECTED,
                        "the peer does not accept our certificate"},
                {SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, EKEYREJECTED,
                        "the peer does not accept our certificate"},
                {SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, EKEYREJECTED,
                        "the peer wants a certificate of us"},
                /* versions */
                {SSL_R_UNSUPPORTED_PROTOCOL, EPROTONOSUPPORT, "the peer speaks another version of TLS"},
                {SSL_R_VERSION_TOO_LOW, EPROTONOSUPPORT, "the peer speaks another version of TLS"},
                {SSL_R_NO_PROTOCOLS_AVAILABLE, EPROTONOSUPPORT, "the peer speaks another version of TLS"},
                {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, EPROTONOSUPPORT,
                        "the peer speaks another version of TLS"},
                {SSL_R_NO_APPLICATION_PROTOCOL, EPROTONOSUPPORT,
                        "the peer wants another protocol above TLS"},
                {SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL, EPROTONOSUPPORT,
                        "the peer wants another protocol above TLS"},
                {SSL_R_NO_SHARED_CIPHER, EPROTONOSUPPORT, "the peer has no cipher in common with us"},
                {SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, EPROTONOSUPPORT,
                        "the peer has no cipher in common with us"},
                /* what is no TLS */
                {SSL_R_HTTP_REQUEST, EPROTOTYPE, "the peer speaks plain text, not TLS"},
                {SSL_R_HTTPS_PROXY_REQUEST, EPROTOTYPE, "the peer speaks plain text, not TLS"},
                {SSL_R_WRONG_VERSION_NUMBER, EPROTOTYPE, "the peer speaks plain text, not TLS"},
                {SSL_R_PACKET_LENGTH_TOO_LONG, EPROTOTYPE, "the peer speaks plain text, not TLS"},
                {SSL_R_UNEXPECTED_EOF_WHILE_READING, ECONNRESET, "the connection was cut off"},
        };
        /* The first in the queue is what went wrong deep inside, the last what came of it. */
        unsigned long error = ERR_peek_last_error();
        int reason = ERR_GET_REASON(error);

        ERR_clear_error();
        if (reason == ERR_R_MALLOC_FAILURE) {
                *ret_text = "out of memory";
                return -ENOMEM;
        }
        if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
                return certificate_error(ssl, ret_text);
        FOREACH_ARRAY(e, errors, ELEMENTSOF(errors))
                if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason == e->reason) {
                        *ret_text = e->text;
                        return -e->error;
                }
        *ret_text = ERR_reason_error_string(error) ?: "TLS failed";
        return -EPROTO;
}
