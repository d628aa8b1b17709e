/* SPDX-License-Identifier: Apache-2.0 */
#include "service/peers.h"

#include "util/hash.h"

struct Peer {
        UT_hash_handle hh;
        RpcClient *client;
        char address[];
};

static Peer *peer_free(Peer *peer) {
        rpc_client_free(peer->client);
        return mfree(peer);
}
DEFINE_CLEANUP(Peer *, peer_free);

void peers_init(
        Peers *peers, sd_event *event, uint64_t timeout_usec, void (*lost)(void *userdata), void *userdata) {
        *peers = (Peers){
                .event = sd_event_ref(event),
                .timeout_usec = timeout_usec,
                .lost = lost,
                .userdata = userdata,
        };
}

static void on_disconnect(void *userdata) {
        Peers *peers = userdata;
        peers->lost(peers->userdata);
}

void peers_done(Peers *peers) {
        Peer *peer;

        while ((peer = peers->by_address)) { /* whom it fails may call again */
                HASH_DEL(peers->by_address, peer);
                peer_free(peer);
        }
        peers->event = sd_event_unref(peers->event);
}

int peers_get(Peers *peers, const char *address, RpcClient **ret) {
        Peer *found;

        HASH_FIND_STR(peers->by_address, address, found);
        if (!found) {
                size_t size = strlen(address) + 1;
                _cleanup_(peer_freep) Peer *peer = calloc(1, sizeof(Peer) + size);
                if (!peer)
                        return -ENOMEM;
                memcpy(peer->address, address, size);
                const RpcClientConfig config = {
                        .address = address, .timeout_usec = peers->timeout_usec, .role = peers->role};
                static const RpcClientHandlers handlers = {.on_disconnect = on_disconnect};
                int r = rpc_client_new(&peer->client, peers->event, &config, &handlers, peers);
                if (r < 0)
                        return r;
                HASH_ADD_STR(peers->by_address, address, peer);
                if (!HASH_WAS_ADDED(peer))
                        return -ENOMEM;
                found = TAKE_PTR(peer);
        }
        *ret = found->client;
        return 0;
}
