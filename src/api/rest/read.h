/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a REST request says. */

#include "api/rest/route-table.h"
#include "conf/conf.h"
#include "proto/json.h"
#include "service/call.h"
#include "web/web.h"

/* The client's address: the peer's, or what a trusted proxy says. */
void rest_find_address(const HttpRequest *http, const Conf *conf, char *out, size_t size);

/* Fills call->request from path, query and body. ERROR_NONE, or error->detail says more. */
Sc__ErrorCode rest_read_request(
        const HttpRequest *http, const RouteMatch *match, Call *call, JsonError *error);

/* The token of "Authorization: Bearer TOKEN", or NULL. */
const char *rest_bearer_token(const HttpRequest *http);
