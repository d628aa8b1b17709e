/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* For the roles that serve HTTP or WebSocket: their loop (RoleHooks.web), and their activated sockets. A role that
 * does not name it does not map libwebsockets, libuv and OpenSSL.
 *
 * A socket is plain or under TLS by its FileDescriptorName=. For TLS the service needs the credentials tls.crt (PEM:
 * the certificate, and those between it and its CA) and tls.key. */

#include "service/role.h"
#include "web/web.h"

extern const RoleWeb role_web;

/* Listens on every activated socket of these two names; logs what fails. -ENOENT: there is none of either; or TLS
 * is asked for and a credential is missing. */
int role_web_listen(RoleProcess *process, WebServer *server, const char *plain, const char *tls);
/* For RoleHooks.reload: new connections take the certificate as it is now. If that is no good the one in force
 * stays, and the reload has a problem. */
void role_web_reload(RoleProcess *process, WebServer *server);
