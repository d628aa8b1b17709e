/* SPDX-License-Identifier: Apache-2.0 */
#include "service/role-web.h"

#include "log/log.h"
#include "service/credential.h"
#include "web/loop.h"

const RoleWeb role_web = {
        .loop_new = web_loop_new,
        .loop_run = web_loop_run,
        .loop_free = web_loop_free,
};

/* What is wrong, as a sentence without a full stop, goes to *ret_problem. */
static int load_tls(TlsContext **ret, const char **ret_problem) {
        _cleanup_(credential_wipe_and_freep) char *key = NULL;
        _cleanup_free_ char *certificate = NULL;
        size_t size;

        *ret_problem = "the credential tls.crt cannot be read";
        int r = credential_read("tls.crt", CREDENTIAL_MAX, &certificate, &size);
        if (r < 0)
                return r;
        *ret_problem = "the credential tls.key cannot be read";
        r = credential_read("tls.key", CREDENTIAL_MAX, &key, &size);
        if (r < 0)
                return r;
        *ret_problem = NULL;
        return tls_context_new(ret,
                &(TlsConfig){
                        .server = true,
                        .certificate = certificate,
                        .key = key,
                        .alpn = "http/1.1",
                },
                ret_problem);
}

static int use_certificate(WebServer *server, const char **ret_problem) {
        _cleanup_(tls_context_unrefp) TlsContext *tls = NULL;

        int r = load_tls(&tls, ret_problem);
        if (r >= 0)
                web_server_set_tls(server, tls);
        return r;
}

/* How many there were of this name. */
static int listen_on(RoleProcess *process, WebServer *server, const char *name,
        int (*listen)(WebServer *server, int fd)) {
        int fd, n = 0;

        while ((fd = role_process_take_socket(process, name)) >= 0) {
                int r = listen(server, fd);
                if (r < 0)
                        return log_error_errno(r, "Failed to listen on the socket %s: %m", name);
                n++;
        }
        return n;
}

int role_web_listen(RoleProcess *process, WebServer *server, const char *plain, const char *tls) {
        const char *problem;

        int n_plain = listen_on(process, server, plain, web_server_listen);
        if (n_plain < 0)
                return n_plain;
        int n_tls = listen_on(process, server, tls, web_server_listen_tls);
        if (n_tls < 0)
                return n_tls;
        if (n_plain + n_tls == 0)
                return log_error_errno(
                        -ENOENT, "There is no socket named %s or %s to listen on: %m", plain, tls);
        int r = n_tls > 0 ? use_certificate(server, &problem) : 0;
        if (r < 0)
                return log_error_errno(r, "The socket named %s needs a certificate, but %s: %m", tls,
                        problem ?: "it cannot be used");
        return 0;
}

void role_web_reload(RoleProcess *process, WebServer *server) {
        const char *problem;

        if (!web_server_has_tls(server))
                return;
        int r = use_certificate(server, &problem);
        if (r < 0)
                role_process_problem(process, "The certificate in force stays: %s: %s",
                        problem ?: "the new one cannot be used", strerror(-r));
}
