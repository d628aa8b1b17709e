/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether a request is let in at all: who asks, and whether that user and that address may ask for more just
 * now. Comes before the body is read. */

#include "api/rest/request.h"

/* Of a method: reads the token if the method needs one, and charges the call. ERROR_NONE, and call->caller is
 * set; or what the request is refused with. */
Sc__ErrorCode rest_admit_call(RestRequest *request);
/* Of what is no method. */
Sc__ErrorCode rest_admit_page(RestRequest *request);
