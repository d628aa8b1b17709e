/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether a request is let in at all: who asks, and whether that user and that address may ask for more just
 * now. Comes before the body is read. */

#include "api/rest/request.h"

/* The request has a token that the method needs and that is not known yet: call rest_check_token(). */
bool rest_token_is_unknown(RestRequest *request, const MethodInfo *method);
/* On a fiber, which waits: verifies the token. What that came to is for rest_admit_call() to say; a negative
 * errno if there was no verifying. */
int rest_check_token(RestRequest *request);

/* Of a method: takes the user from the token if the method needs one, and charges the call. ERROR_NONE, and
 * call->caller is set; or what the request is refused with. */
Sc__ErrorCode rest_admit_call(RestRequest *request);
/* Of what is no method. */
Sc__ErrorCode rest_admit_page(RestRequest *request);
