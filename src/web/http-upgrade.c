/* SPDX-License-Identifier: Apache-2.0 */
/* The opening handshake of a WebSocket (RFC 6455 section 4.2.1). */
#include "util/string-util.h"
#include "web/http-internal.h"

static bool key_is_valid(const char *key) {
        /* 16 bytes in base64: 22 characters, "==" */
        static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        return strlen(key) == 24 && strspn(key, base64) == 22 && streq(key + 22, "==");
}

/* True if the connection may become a WebSocket; else it is refused. */
static bool check_upgrade(HttpRequest *request) {
        const HttpHeader wanted[] = {{"Sec-WebSocket-Version", "13"}, {"Upgrade", "websocket"}};
        const char *key = http_request_header(request, "sec-websocket-key");
        const char *version = http_request_header(request, "sec-websocket-version");
        WebServer *server = http_server(request);

        /* What comes behind the head was sent without waiting for the answer, as the RFC demands. */
        if (!streq(http_request_verb(request), "GET") || request->head.content_length > 0 ||
                request->head.chunked || request->in.size > request->head.size || !key || !key_is_valid(key))
                http_refuse(request, SC__ERROR_CODE__ERROR_MALFORMED_REQUEST);
        else if (!version || !streq(version, "13"))
                http_refuse_with(
                        request, SC__ERROR_CODE__ERROR_MALFORMED_REQUEST, 426, wanted, ELEMENTSOF(wanted));
        else if (server->handlers.on_upgrade &&
                 !server->handlers.on_upgrade(http_request_header(request, "origin"),
                         http_request_header(request, "host"), server->userdata))
                http_refuse(request, SC__ERROR_CODE__ERROR_PERMISSION_DENIED);
        else
                return true;
        return false;
}

/* Is the server's subprotocol among those that the client offers? */
static bool offers_protocol(const HttpRequest *request) {
        const char *wanted = http_server(request)->handlers.ws_protocol;
        const char *offered = http_request_header(request, "sec-websocket-protocol");

        while (wanted && offered && *offered) {
                offered += strspn(offered, " \t,");
                size_t n = strcspn(offered, " \t,");
                if (n == strlen(wanted) && strncmp(offered, wanted, n) == 0)
                        return true;
                offered += n;
        }
        return false;
}

bool http_upgrade(HttpRequest *request) {
        WebServer *server = http_server(request);
        bool protocol;
        char key[32];

        if (!check_upgrade(request))
                return false;
        protocol = offers_protocol(request);
        strcpy(key, http_request_header(request, "sec-websocket-key")); /* 24 characters, checked */
        Transport *transport = TAKE_PTR(request->transport);
        http_leave(request);
        Peer peer = TAKE_GENERIC(request->peer, (Peer){});
        http_unref(request);
        websocket_adopt(server, transport, &peer, key, protocol);
        web_server_check_drained(server);
        return true;
}
