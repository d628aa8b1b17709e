/* SPDX-License-Identifier: Apache-2.0 */
#include "socket/gateway/gateway-state.h"

#include "util/string-util.h"

Link *gateway_find_link(const Gateway *gateway, const char *address) {
        Link *link;

        LIST_FOREACH(link, &gateway->links, in_gateway)
                if (streq(link->address, address))
                        return link;
        return NULL;
}

Link *gateway_link_of(const Gateway *gateway, const char *conversation) {
        if (gateway->n_links == 1)
                return LIST_FIRST(&gateway->links);
        const char *address = routes_address(gateway->role->process->routes, ROLE_GROUP, conversation);
        return address ? gateway_find_link(gateway, address) : NULL;
}

bool link_serves(const Link *link, const char *conversation) {
        return gateway_link_of(link->gateway, conversation) == link;
}
