/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* org.stonechat.Arbiter1 at /org/stonechat/Arbiter: what the arbiter knows, for the roles, stonechatctl and
 * any monitor. All properties emit PropertiesChanged.
 *
 *   Host      s              this host's id, made from /etc/machine-id in a way that does not reveal that
 *   HostName  s
 *   Healthy   b              this host is
 *   Units     a(ssssustbss)  name, active state, sub state, result, restarts counted by systemd, invocation
 *                            id, time of the last change of state (Unix time in microseconds), healthy,
 *                            status text, what is wrong
 *   Routes    a(uusts)       first shard, last shard, host, epoch, address of the primary's RPC socket */

#include <systemd/sd-bus.h>

#include "arbiter/health.h"

#define ARBITER_PATH "/org/stonechat/Arbiter"
#define ARBITER_INTERFACE "org.stonechat.Arbiter1"

typedef struct ArbiterView {
        const ArbiterState *state;
        const char *host, *host_name;
        const char *group_address;
} ArbiterView;

/* The view is read with each Get; it must outlive the object. */
int arbiter_object_export(sd_bus *bus, const ArbiterView *view, sd_bus_slot **ret_slot);
void arbiter_object_changed(sd_bus *bus, const ArbiterActions *actions);
