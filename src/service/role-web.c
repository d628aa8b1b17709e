/* SPDX-License-Identifier: Apache-2.0 */
#include "service/role-web.h"

#include "web/loop.h"

const RoleWeb role_web = {
        .loop_new = web_loop_new,
        .loop_run = web_loop_run,
        .loop_free = web_loop_free,
};
