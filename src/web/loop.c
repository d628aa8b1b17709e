/* SPDX-License-Identifier: Apache-2.0 */
#include "web/loop.h"

#include "web/web-internal.h"

/* Events of sd-event handled in one turn, so that connections in libuv get their share. */
#define EVENTS_PER_TURN 128U

/* One event; 0 when nothing is due. In that case sd-event has armed its timers, which its epoll fd shows. */
static int run_one(sd_event *event) {
        int r;

        if (sd_event_get_state(event) == SD_EVENT_PENDING) /* by web_loop_refresh_time() */
                return sd_event_dispatch(event);
        r = sd_event_prepare(event);
        if (r == 0)
                r = sd_event_wait(event, 0);
        if (r > 0)
                r = sd_event_dispatch(event);
        return r;
}

/* sd_event_now(), which relative timers count from, is the time of the last sd_event_wait(): before libuv
 * slept. Events found here are dispatched by on_prepare(). */
void web_loop_refresh_time(WebLoop *loop) {
        if (loop->time_is_fresh || sd_event_get_state(loop->event) != SD_EVENT_INITIAL)
                return;
        loop->time_is_fresh = true;
        if (sd_event_prepare(loop->event) == 0)
                sd_event_wait(loop->event, 0);
}

static void on_again(uv_idle_t *idle) {
}

static void on_prepare(uv_prepare_t *prepare) {
        WebLoop *loop = CONTAINER_OF(prepare, WebLoop, prepare);
        int r = 1;

        loop->time_is_fresh = true;
        for (unsigned i = 0; r > 0 && i < EVENTS_PER_TURN; i++)
                r = run_one(loop->event);
        bool more = websocket_flush(loop);
        loop->time_is_fresh = false;

        if (sd_event_get_state(loop->event) == SD_EVENT_FINISHED)
                uv_stop(&loop->uv);
        else if (r < 0) {
                loop->error = r;
                uv_stop(&loop->uv);
        } else if (r > 0 || more) /* an active idle handle keeps libuv from waiting */
                uv_idle_start(&loop->again, on_again);
        else
                uv_idle_stop(&loop->again);
}

/* Only wakes the loop; on_prepare() does the work before the next wait. */
static void on_poll(uv_poll_t *poll, int status, int events) {
}

int web_loop_new(WebLoop **ret, sd_event *event) {
        _cleanup_free_ WebLoop *loop = new0(WebLoop, 1);
        int r;

        if (!loop)
                return -ENOMEM;
        r = uv_loop_init(&loop->uv); /* libuv's errors are negative errno values too */
        if (r < 0)
                return r;
        r = uv_poll_init(&loop->uv, &loop->poll, sd_event_get_fd(event));
        if (r < 0) {
                uv_loop_close(&loop->uv);
                return r;
        }
        loop->event = sd_event_ref(event);
        TAILQ_INIT(&loop->waiting);
        loop->sockets_fd = -EBADF;
        uv_prepare_init(&loop->uv, &loop->prepare);
        uv_idle_init(&loop->uv, &loop->again);
        uv_prepare_start(&loop->prepare, on_prepare);
        r = uv_poll_start(&loop->poll, UV_READABLE, on_poll);
        if (r < 0) {
                web_loop_free(TAKE_PTR(loop));
                return r;
        }
        *ret = TAKE_PTR(loop);
        return 0;
}

/* Handles close on the loop only: run it until the last is gone. */
static void run_to_end(WebLoop *loop) {
        for (unsigned i = 0; i < 1000 && uv_run(&loop->uv, UV_RUN_NOWAIT) != 0; i++)
                ;
}

WebLoop *web_loop_free(WebLoop *loop) {
        if (!loop)
                return NULL;
        uv_close((uv_handle_t *) &loop->poll, NULL);
        uv_close((uv_handle_t *) &loop->prepare, NULL);
        uv_close((uv_handle_t *) &loop->again, NULL);
        websocket_receive_done(loop);
        lws_wire_done(loop);
        run_to_end(loop);
        lws_wire_done(loop);
        uv_loop_close(&loop->uv);
        buffer_done(&loop->scratch);
        sd_event_unref(loop->event);
        return mfree(loop);
}

int web_loop_run(WebLoop *loop) {
        int code = 0, r;

        while (sd_event_get_state(loop->event) != SD_EVENT_FINISHED) {
                uv_run(&loop->uv, UV_RUN_DEFAULT);
                if (loop->error < 0)
                        return loop->error;
        }
        r = sd_event_get_exit_code(loop->event, &code);
        return r < 0 ? r : code;
}
