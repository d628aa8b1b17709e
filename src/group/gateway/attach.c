/* SPDX-License-Identifier: Apache-2.0 */
#include "group/gateway/attach.h"

#include "group/delivery/online.h"
#include "group/gateway/attach-batch.h"
#include "schema-tables.h"
#include "service-handlers.h"

/* The methods are hot because of when they begin, not how they go on: attaching and detaching take effect in
 * the order in which the gateway asked, and however many clients come back at once, none is refused. Batches
 * wait here, without a stack, for one of a few fibers. */

struct AttachQueue {
        TAILQ_HEAD(, AttachBatch) waiting;
        unsigned n_running; /* fibers */
};

int attach_queue_new(AttachQueue **ret) {
        AttachQueue *queue = new0(AttachQueue, 1);

        if (!queue)
                return -ENOMEM;
        TAILQ_INIT(&queue->waiting);
        *ret = queue;
        return 0;
}

AttachQueue *attach_queue_free(AttachQueue *queue) {
        return mfree(queue);
}

/* --- the queue --- */

/* On a fiber: one after the other until none waits. */
static void run_waiting(void *userdata) {
        GroupRole *role = userdata;
        AttachBatch *batch;

        while ((batch = TAILQ_FIRST(&role->attaches->waiting))) {
                TAILQ_REMOVE(&role->attaches->waiting, batch, entry);
                int r = call_check_wanted(batch->call);
                attach_batch_end(batch, r < 0 ? r : attach_batch_run(batch));
        }
        role->attaches->n_running--;
}

static void fail_waiting(GroupRole *role, int r) {
        AttachBatch *batch;

        while ((batch = TAILQ_FIRST(&role->attaches->waiting))) {
                TAILQ_REMOVE(&role->attaches->waiting, batch, entry);
                attach_batch_end(batch, r);
        }
}

static void on_cancelled(int r, void *userdata) {
        GroupRole *role = userdata;

        role->attaches->n_running--;
        fail_waiting(role, r);
}

static void enqueue(GroupRole *role, AttachBatch *batch) {
        AttachQueue *queue = role->attaches;

        TAILQ_INSERT_TAIL(&queue->waiting, batch, entry);
        if (queue->n_running == ATTACH_MAX_CONCURRENT)
                return;
        queue->n_running++;
        int r = fiber_start(role->fibers,
                &(FiberStart){.main = run_waiting,
                        .cancelled = on_cancelled,
                        .userdata = role,
                        .key = "attach",
                        .internal = true},
                NULL);
        if (r >= 0)
                return;
        /* If others run they will come to it. */
        if (--queue->n_running == 0)
                fail_waiting(role, r);
}

void attach_queue_forget_gateway(GroupRole *role, const void *gateway) {
        AttachBatch *batch, *next;

        for (batch = TAILQ_FIRST(&role->attaches->waiting); batch; batch = next) {
                next = TAILQ_NEXT(batch, entry);
                if (batch->call->origin != gateway)
                        continue;
                TAILQ_REMOVE(&role->attaches->waiting, batch, entry);
                attach_batch_end(batch, -ECANCELED);
        }
}

/* --- the handlers --- */

static void register_client(AttachBatch *batch, AttachClient *client) {
        const Sc__AttachRequest__Client *request = client->request;

        int r = online_attach(batch->role->online,
                &(OnlineClient){
                        .id = request->client,
                        .user = request->user,
                        .device = request->device,
                        .gateway = batch->call->origin,
                },
                &client->serial);
        if (r == -EEXIST)
                attach_client_fail(client, ERROR_INVALID_ARGUMENT, "client: belongs to another user");
        else if (r < 0)
                attach_client_fail(client, call_code_of_errno(r), "");
}

static int begin(Call *call, const Sc__AttachRequest *request, AttachBatch **ret) {
        if (!call->origin)
                return call_refuse(call, ERROR_PERMISSION_DENIED, "only a gateway attaches connections");
        AttachBatch *batch = arena_new(&call->arena, AttachBatch, 1);
        if (!batch)
                return -ENOMEM;
        *batch = (AttachBatch){.call = call, .role = call->role, .n_clients = request->n_clients};
        batch->clients = arena_new(&call->arena, AttachClient, request->n_clients + 1);
        if (!batch->clients)
                return -ENOMEM;
        for (size_t i = 0; i < request->n_clients; i++) {
                batch->clients[i].request = request->clients[i];
                register_client(batch, &batch->clients[i]);
        }
        *ret = batch;
        return 0;
}

void handle_gateway_attach(Call *call, const Sc__AttachRequest *request) {
        AttachBatch *batch;

        int r = begin(call, request, &batch);
        if (r < 0)
                return call_end(call, r, NULL);
        enqueue(call->role, batch);
}

void handle_gateway_detach(Call *call, const Sc__DetachRequest *request) {
        Sc__DetachResponse response = SC__DETACH_RESPONSE__INIT;
        GroupRole *role = call->role;

        online_detach(role->online, request->client, call->origin);
        call_return(call, &response.base);
}
