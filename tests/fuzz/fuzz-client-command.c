/* SPDX-License-Identifier: Apache-2.0 */

/* What a client may send: whole messages, to a connection that has signed in or not. The lowest bit of the
 * first byte chooses the framing (0: JSON, 1: protobuf), the next one the connection (1: signed in). */

#include "fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        WebSocket *socket;

        if (size == 0)
                return 0;
        setup(NULL);
        socket = client_open();
        if (data[0] & 2) {
                client_gone(socket);
                socket = client_connected("ann", "s1", "c1", 4);
                if (data[0] & 1)
                        ((Connection *) websocket_get_userdata(socket))->codec_known = false;
        }
        client_send(socket, data + 1, size - 1, data[0] & 1);
        if (data[0] & 2)
                push_message("c1", 5);
        teardown(NULL);
        return 0;
}
