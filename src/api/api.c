/* SPDX-License-Identifier: Apache-2.0 */
#include "api/api-role.h"
#include "service/role-web.h"

int main(int argc, char *argv[]) {
        static const RoleHooks hooks = {
                .name = "api",
                .bus_name = "org.stonechat.Api",
                .description = "Serves Stonechat's REST interface, and owns accounts and sessions.",
                .methods = api_methods,
                .web = &role_web,
                .start = api_start,
                .stop = api_stop,
                .reload = api_reload,
                .healthy = api_healthy,
                .alive = api_alive,
                .status = api_status,
                .statistics = api_statistics,
                .drain = api_drain,
        };

        return role_main(argc, argv, &hooks);
}
