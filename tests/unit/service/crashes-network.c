/* SPDX-License-Identifier: Apache-2.0 */

/* The network between the roles: it loses, doubles and delays. */

#include <inttypes.h>
#include <stdio.h>

#include "crashes-world.h"
#include "schema-tables.h"
#include "util/string-util.h"

static Request *request_free(Request *request) {
        TAILQ_REMOVE(&request->world->requests, request, link);
        if (request->reply)
                future_unref(&request->reply->future);
        free(request->data);
        return mfree(request);
}

static void request_answer(Request *request, Sc__ErrorCode code) {
        Reply *reply = TAKE_PTR(request->reply);

        if (!reply)
                return;
        reply->outcome.code = code;
        future_fulfil(&reply->future);
}

static Request *request_new(World *world, Process *from, const DispatcherDelivery *delivery, Reply *reply) {
        Request *request = new0(Request, 1);

        assert_se(request);
        *request = (Request){.world = world,
                .from = from,
                .method = delivery->method,
                .size = delivery->request_size,
                .number = delivery->number};
        request->data = malloc(delivery->request_size + 1);
        assert_se(request->data);
        memcpy(request->data, delivery->request, delivery->request_size);
        snprintf(request->source, sizeof(request->source), "%s", delivery->source);
        snprintf(request->target, sizeof(request->target), "%s", delivery->target);
        if (reply) {
                request->reply = reply;
                future_ref(&reply->future);
        }
        TAILQ_INSERT_TAIL(&world->requests, request, link);
        return request;
}

/* In place of the dispatcher's, by the linker's --wrap: a "dispatcher" is the process that sends. */
int __wrap_dispatcher_deliver(
        Dispatcher *dispatcher, const DispatcherDelivery *delivery, DispatcherOutcome *ret);

int __wrap_dispatcher_deliver(
        Dispatcher *dispatcher, const DispatcherDelivery *delivery, DispatcherOutcome *ret) {
        Process *from = (Process *) dispatcher;
        World *world = from->world;
        Reply *reply = new0(Reply, 1);

        assert_se(reply);
        world_note(world, "send", delivery->number);
        future_init(&reply->future, NULL);
        (void) request_new(world, from, delivery, reply);
        if (world->faults && random_percent(&world->random, 10)) {
                world->n_doubled++;
                (void) request_new(world, from, delivery, NULL);
        }
        int r = future_await(&reply->future);
        if (r >= 0)
                *ret = reply->outcome;
        future_unref(&reply->future);
        return r;
}

static void run_handler(void *userdata) {
        Request *request = userdata;
        Process *process = &request->world->b;
        Call call = {.method = request->method,
                .intent = {.source = request->source, .number = request->number, .target = request->target}};

        arena_init(&call.arena, 1U << 20);
        int r = arena_unpack(&call.arena, request->method->request->descriptor, request->data, request->size,
                &call.request);
        assert_se(r >= 0);
        request_answer(request, handle_intent(&call, process));
        arena_done(&call.arena);
        request_free(request);
}

static void handler_cancelled(int r, void *userdata) {
        request_answer(userdata, ERROR_UNAVAILABLE);
        request_free(userdata);
}

/* One thing happens to one request. */
void network_step(World *world) {
        Request *request;
        unsigned n = 0;

        TAILQ_FOREACH(request, &world->requests, link)
                n++;
        if (n == 0)
                return;
        n = random_below(&world->random, n);
        TAILQ_FOREACH(request, &world->requests, link)
                if (n-- == 0)
                        break;
        if (world->faults && random_percent(&world->random, 10)) {
                /* The caller gives up: the request, or its handler, or its answer, is still on its way. */
                world->n_lost++;
                request_answer(
                        request, random_percent(&world->random, 50) ? ERROR_TIMEOUT : ERROR_UNAVAILABLE);
        } else if (!request->running && random_percent(&world->random, 50)) {
                const FiberStart start = {.main = run_handler,
                        .cancelled = handler_cancelled,
                        .userdata = request,
                        .internal = true};
                request->running = true;
                assert_se(fiber_start(world->b.fibers, &start, NULL) >= 0);
        }
}

void network_forget(World *world, Process *process) {
        Request *request, *next;

        for (request = TAILQ_FIRST(&world->requests); request; request = next) {
                next = TAILQ_NEXT(request, link);
                if (process == &world->a && random_percent(&world->random, 50))
                        continue;
                request_answer(request, ERROR_UNAVAILABLE);
                if (!request->running) /* else its handler ends with the process, or by itself */
                        request_free(request);
        }
}
