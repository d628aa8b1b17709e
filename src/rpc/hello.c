/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/hello.h"

Sc__Envelope hello_make(Role role, Sc__Envelope__Hello *hello) {
        Sc__Envelope envelope = SC__ENVELOPE__INIT;
        const char *name = role_to_string(role);

        *hello = (Sc__Envelope__Hello) SC__ENVELOPE__HELLO__INIT;
        hello->version = RPC_VERSION;
        hello->oldest_version = RPC_OLDEST_VERSION;
        if (name)
                hello->role = (char *) name;
        hello->software = (char *) STONECHAT_VERSION;
        envelope.kind = SC__ENVELOPE__KIND__HELLO;
        envelope.hello = hello;
        return envelope;
}

int hello_check(const Sc__Envelope__Hello *hello, Role *ret) {
        if (hello->version < RPC_OLDEST_VERSION || hello->oldest_version > RPC_VERSION)
                return -EPROTONOSUPPORT;
        *ret = role_from_string(hello->role);
        return 0;
}
