/* SPDX-License-Identifier: Apache-2.0 */
#include "service/store-room.h"

#include <sodium.h>

#include "log/log.h"
#include "log/message-ids.h"
#include "schema-tables.h"
#include "util/time-util.h"

#define PROBE_NAME "probe"
#define PROBE_SIZE (64U << 10)

struct StoreRoom {
        StoreRoomConfig config;
        sd_event *event;
        sd_event_source *timer;
        FiberPool *fibers;
        Store *store;
        bool full, probing, stopped;
        uint8_t *padding; /* while it is full */
};

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata);

int store_room_new(
        StoreRoom **ret, sd_event *event, FiberPool *fibers, Store *store, const StoreRoomConfig *config) {
        _cleanup_(store_room_freep) StoreRoom *room = new0(StoreRoom, 1);
        if (!room)
                return -ENOMEM;
        room->config = *config;
        room->event = sd_event_ref(event);
        room->fibers = fibers;
        room->store = store;
        int r = sd_event_add_time_relative(
                event, &room->timer, CLOCK_BOOTTIME, STORE_ROOM_PROBE_USEC, 0, on_timer, room);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(room->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(room);
        return 0;
}

void store_room_stop(StoreRoom *room) {
        if (!room)
                return;
        room->stopped = true;
        room->timer = sd_event_source_disable_unref(room->timer);
}

StoreRoom *store_room_free(StoreRoom *room) {
        if (!room)
                return NULL;
        store_room_stop(room);
        sd_event_unref(room->event);
        free(room->padding);
        free(room);
        return NULL;
}

bool store_room_is_full(const StoreRoom *room) {
        return room->full;
}

/* Without the timer the next write that finds the disk full tries again. */
static int probe_later(StoreRoom *room) {
        int r = sd_event_source_set_time_relative(room->timer, STORE_ROOM_PROBE_USEC);

        return r < 0 ? r : sd_event_source_set_enabled(room->timer, SD_EVENT_ONESHOT);
}

static void set_full(StoreRoom *room, bool full) {
        room->full = full;
        if (full)
                log_with((.message_id = MESSAGE_ID_STORE_FULL, .error_number = ENOSPC), LOG_ERR, "%s",
                        room->config.full);
        else
                log_with((.message_id = MESSAGE_ID_STORE_RECOVERED), LOG_NOTICE, "%s",
                        room->config.recovered);
        if (room->config.changed)
                room->config.changed(room->config.userdata);
}

void store_room_note(StoreRoom *room, int r) {
        if (r != -ENOSPC || room->stopped)
                return;
        if (!room->full)
                set_full(room, true);
        if (!room->probing && sd_event_source_get_enabled(room->timer, NULL) <= 0)
                (void) probe_later(room);
}

/* --- the probe, on a fiber --- */

static int write_probe(StoreRoom *room, StoreVerb verb, uint8_t *padding) {
        Sc__SpaceProbe probe = SC__SPACE_PROBE__INIT;
        StoreWritten written;

        probe.name = (char *) PROBE_NAME;
        if (padding)
                probe.padding = (ProtobufCBinaryData){PROBE_SIZE, padding};
        return store_write_one(
                room->store, PROBE_NAME, &(StoreItem){verb, &sc__space_probe__info, &probe.base}, &written);
}

/* One may be left from a try before whose deletion failed. Random bytes, because zeros might be compressed. */
static int try_to_write(StoreRoom *room) {
        if (!room->padding)
                room->padding = malloc(PROBE_SIZE);
        if (!room->padding)
                return -ENOMEM;
        randombytes_buf(room->padding, PROBE_SIZE);
        int r = write_probe(room, STORE_DELETE, NULL);
        if (r < 0 && r != -ENOENT)
                return r;
        r = write_probe(room, STORE_INSERT, room->padding);
        return r < 0 ? r : write_probe(room, STORE_DELETE, NULL);
}

static void run_probe(void *userdata) {
        StoreRoom *room = userdata;
        int r = try_to_write(room);

        room->probing = false;
        if (room->stopped)
                return;
        if (r < 0) {
                (void) probe_later(room);
                return;
        }
        room->padding = mfree(room->padding);
        set_full(room, false);
}

static void on_probe_cancelled(_unused_ int r, void *userdata) {
        StoreRoom *room = userdata;

        room->probing = false;
        if (!room->stopped)
                (void) probe_later(room);
}

static int on_timer(_unused_ sd_event_source *source, _unused_ uint64_t usec, void *userdata) {
        StoreRoom *room = userdata;
        FiberStart start = {
                .main = run_probe,
                .cancelled = on_probe_cancelled,
                .userdata = room,
                .key = PROBE_NAME,
                .internal = true,
        };

        room->probing = true;
        int r = fiber_start(room->fibers, &start, NULL);
        if (r < 0) {
                room->probing = false;
                (void) probe_later(room);
        }
        return 0;
}
