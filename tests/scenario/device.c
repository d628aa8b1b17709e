/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include <inttypes.h>
#include <stdio.h>

#include "util/string-util.h"
#include "util/time-util.h"

#define RESEND_USEC (200 * USEC_PER_MSEC)
#define RECONNECT_USEC (500 * USEC_PER_MSEC) /* the SDKs' shortest delay; it doubles, with jitter */
#define CONNECT_TIMEOUT_USEC (5 * USEC_PER_SEC) /* theirs, too: then they begin anew */
#define MAX_FLEETS 4U

static struct {
        Device *devices;
        unsigned n;
} fleets[MAX_FLEETS];
static unsigned n_fleets;

/* --- counting --- */

void codes_add(Codes *codes, unsigned code) {
        unsigned i = 0;

        while (i < codes->n && codes->entries[i].code != code)
                i++;
        if (i == MAX_CODES)
                i--;
        else if (i == codes->n)
                codes->entries[codes->n++].code = code;
        codes->entries[i].n++;
}

uint64_t codes_total(const Codes *codes) {
        uint64_t n = 0;

        for (unsigned i = 0; i < codes->n; i++)
                n += codes->entries[i].n;
        return n;
}

const char *codes_text(const Codes *codes, char *text, size_t size) {
        size_t at = 0;

        snprintf(text, size, "none");
        for (unsigned i = 0; i < codes->n && at < size; i++) {
                int n = codes->entries[i].code == 0
                                ? snprintf(text + at, size - at, "%swithout a code × %" PRIu64,
                                          i > 0 ? ", " : "", codes->entries[i].n)
                                : snprintf(text + at, size - at, "%s%u × %" PRIu64, i > 0 ? ", " : "",
                                          codes->entries[i].code, codes->entries[i].n);
                at += (size_t) n;
        }
        return text;
}

/* --- sending --- */

static void send_one(Device *device, unsigned i) {
        static char padding[60000], text[sizeof(padding) + 512];
        Outgoing *outgoing = &device->outgoing[i];

        if (!*padding)
                memset(padding, 'x', sizeof(padding) - 1);
        outgoing->command = ++device->next_command;
        int n = snprintf(text, sizeof(text),
                "{\"id\":%" PRIu32 ",\"rpc\":{\"method\":\"message.send\",\"data\":{\"conversation\":\"%s\","
                "\"client_msg_id\":\"%s-%" PRIu64 "\",\"text\":\"%" PRIu64 " %u %" PRIu64 " %.*s\"}}}",
                outgoing->command, device->conversation->id, device->person->name, device->number + i,
                outgoing->created_at, device->person->number, device->number + i, (int) device->padding,
                padding);
        device->n_under_way++;
        endpoint_send(&device->endpoint, text, (size_t) n);
}

static void send_what_fits(Device *device) {
        if (!device->ready || device->holding)
                return;
        for (unsigned i = 0; i < device->n_outgoing && device->n_under_way < device->window; i++)
                if (device->outgoing[i].command == 0 && !device->outgoing[i].done)
                        send_one(device, i);
}

void device_say(Device *device, uint64_t when) {
        if (device->n_outgoing == device->n_allocated) {
                device->n_allocated = device->n_allocated * 2 ?: 4;
                device->outgoing =
                        realloc(device->outgoing, device->n_allocated * sizeof(*device->outgoing));
                if (!device->outgoing)
                        fail("out of memory");
        }
        device->outgoing[device->n_outgoing++] = (Outgoing){.created_at = when};
        device->crowd->n_sent++;
        send_what_fits(device);
}

static void forget_done(Device *device) {
        unsigned n = 0;

        while (n < device->n_outgoing && device->outgoing[n].done)
                n++;
        if (n == 0)
                return;
        device->n_outgoing -= n;
        device->number += n;
        memmove(device->outgoing, device->outgoing + n, device->n_outgoing * sizeof(*device->outgoing));
}

static void remember_seq(Device *device, uint64_t number, const char *text) {
        const char *seq = strstr(text, "\"seq\":");

        if (number >= device->n_seqs) {
                size_t n = MAX(number + 1, device->n_seqs * 2);
                device->seqs = realloc(device->seqs, n * sizeof(*device->seqs));
                if (!device->seqs)
                        fail("out of memory");
                memset(device->seqs + device->n_seqs, 0, (n - device->n_seqs) * sizeof(*device->seqs));
                device->n_seqs = n;
        }
        device->seqs[number] = seq ? strtoull(seq + 6, NULL, 10) : 0;
}

/* A client that keeps the order: nothing is sent until the rest of what was under way is answered. */
static void refused_for_now(Device *device, Outgoing *outgoing, unsigned code) {
        codes_add(&device->crowd->temporary, code);
        outgoing->command = 0;
        device->holding = true;
}

static void send_answered(Device *device, uint32_t id, const char *text) {
        uint64_t now = boottime_usec();
        Crowd *crowd = device->crowd;
        unsigned i = 0;

        while (i < device->n_outgoing && (device->outgoing[i].command != id || device->outgoing[i].done))
                i++;
        if (i == device->n_outgoing)
                return;
        Outgoing *outgoing = &device->outgoing[i];
        const char *error = strstr(text, "\"error\":{");
        device->n_under_way--;
        if (!error) {
                outgoing->done = true;
                remember_seq(device, device->number + i, text);
                crowd->n_acknowledged++;
                histogram_add(&crowd->acknowledged, now - outgoing->created_at);
                if (crowd->slow_usec > 0 && now - outgoing->created_at > crowd->slow_usec) {
                        crowd->n_slow++;
                        crowd->last_slow_at = now;
                }
        } else {
                const char *code = strstr(error, "\"code\":");
                unsigned number = code ? (unsigned) strtoul(code + 7, NULL, 10) : 0;
                if (strstr(error, "\"temporary\":true"))
                        refused_for_now(device, outgoing, number);
                else {
                        codes_add(&crowd->refused, number);
                        outgoing->done = true;
                }
        }
        forget_done(device);
        if (device->holding && device->n_under_way == 0)
                device->due_at = now + RESEND_USEC;
        send_what_fits(device);
}

/* --- hearing --- */

static void read_history(Device *device) {
        char text[256];

        device->paging = true;
        device->crowd->n_pages++;
        int n = snprintf(text, sizeof(text),
                "{\"id\":%" PRIu32
                ",\"history\":{\"channel\":\"%s\",\"limit\":-1,\"since\":{\"offset\":%" PRIu64
                ",\"epoch\":\"%s\"}}}",
                ++device->next_command, device->conversation->id, device->offset, device->epoch);
        endpoint_send(&device->endpoint, text, (size_t) n);
}

static void check_text(Device *device, const char *text, bool live) {
        char *end;
        uint64_t when = strtoull(text, &end, 10);
        unsigned sender = (unsigned) strtoul(end, &end, 10);
        uint64_t number = strtoull(end, NULL, 10);
        bool mine = sender == device->person->number;

        if (!mine && sender != device->other->number) {
                device->crowd->n_disordered++;
                return;
        }
        if (device->heard_from_start && number != device->heard[!mine])
                device->crowd->n_disordered++;
        device->heard[!mine] = number + 1;
        if (!live || mine)
                return;
        uint64_t now = boottime_usec();
        histogram_add(&device->crowd->received, now - when);
        if (device->crowd->slow_usec > 0 && now - when > device->crowd->slow_usec)
                device->crowd->last_slow_at = now;
}

static void hear(Device *device, uint64_t seq, const char *text, bool live) {
        Crowd *crowd = device->crowd;

        if (seq != device->offset + 1) {
                if (device->paging) /* live ones overlap with the pages, which bring them all */
                        return;
                if (seq <= device->offset) {
                        crowd->n_duplicates++;
                        return;
                }
                crowd->n_gaps++;
                device->heard_from_start = false;
        }
        device->offset = seq;
        crowd->n_received++;
        if (!live)
                crowd->n_recovered++;
        check_text(device, text, live);
}

/* Every message in the line, wherever it stands: in a push, a connect reply or a page. */
static unsigned hear_all(Device *device, char *text, size_t size, bool live) {
        static const char begin[] = "{\"message\":{\"conversation\":\"";
        const char *id = device->conversation->id;
        size_t id_size = strlen(id);
        char *end = text + size, *at = text;
        unsigned n = 0;

        while ((at = memmem(at, (size_t) (end - at), begin, sizeof(begin) - 1))) {
                at += sizeof(begin) - 1;
                if (strncmp(at, id, id_size) != 0 || at[id_size] != '"')
                        continue;
                char *seq = strstr(at, "\"seq\":"), *body = seq ? strstr(seq, "\"text\":\"") : NULL;
                if (!body)
                        fail("a message without seq or text: %.200s", at);
                hear(device, strtoull(seq + 6, NULL, 10), body + 8, live);
                at = body;
                n++;
        }
        return n;
}

/* What the connect reply says about one subscription: the end of its object, or NULL if it is not in there. */
typedef struct Subscribed {
        char epoch[UUID_TEXT_SIZE];
        uint64_t offset;
        bool recovered;
} Subscribed;

static bool find_subscription(char *text, const char *id, Subscribed *ret) {
        char key[UUID_TEXT_SIZE + 8];
        unsigned depth = 0;

        snprintf(key, sizeof(key), "\"%s\":{", id);
        char *p = strstr(text, key);
        if (!p)
                return false;
        *ret = (Subscribed){};
        for (p += strlen(key); *p && !(depth == 0 && *p == '}'); p++)
                if (*p == '{' || *p == '[')
                        depth++;
                else if (*p == '}' || *p == ']')
                        depth--;
                else if (*p == '"') {
                        char *q = p + 1;
                        while (*q && *q != '"')
                                q += *q == '\\' ? 2 : 1;
                        if (depth == 0 && startswith(p, "\"epoch\":\""))
                                (void) sscanf(p + 9, "%36[^\"]", ret->epoch);
                        else if (depth == 0 && startswith(p, "\"offset\":"))
                                ret->offset = strtoull(p + 9, NULL, 10);
                        else if (depth == 0 && startswith(p, "\"recovered\":true"))
                                ret->recovered = true;
                        if (depth == 0 && startswith(p, "\"epoch\":\"")) {
                                q = p + 9;
                                while (*q && *q != '"')
                                        q++;
                        }
                        p = q;
                }
        return true;
}

static void subscribed(Device *device, char *text, size_t size) {
        Subscribed now;

        if (!find_subscription(text, device->conversation->id, &now))
                return; /* it comes as a push */
        bool known = *device->epoch;
        if (known && !streq(device->epoch, now.epoch))
                fail("the epoch of a conversation changed");
        strcpy(device->epoch, now.epoch);
        if (!known) {
                device->heard_from_start = now.offset == 0;
                device->offset = now.offset;
                return;
        }
        (void) hear_all(device, text, size, false);
        if (!now.recovered && now.offset > device->offset) {
                device->crowd->n_unrecovered++;
                read_history(device);
        }
}

static void connected(Device *device, char *text, size_t size) {
        const char *error = strstr(text, "\"error\":{");

        if (error && error - text < 20) { /* an SDK comes back later */
                codes_add(&device->crowd->temporary, (unsigned) strtoul(error + 16, NULL, 10));
                device->connect_refused = true;
                device->due_at = 1;
                return;
        }
        device->ready = true;
        device->ready_at = boottime_usec();
        device->attempts = 0;
        device->due_at = 0;
        device->holding = false;
        device->n_under_way = 0;
        subscribed(device, text, size);
        send_what_fits(device);
}

static void on_line(Endpoint *endpoint, char *text, size_t size) {
        Device *device = (Device *) endpoint;
        const char *rest = startswith(text, "{\"id\":");

        if (!rest) {
                if (strstr(text, device->conversation->id) &&
                        hear_all(device, text, size, !device->paging) == 0 &&
                        strstr(text, "\"subscribe\":{"))
                        (void) sscanf(
                                strstr(text, "\"epoch\":\"") ?: "", "\"epoch\":\"%36[^\"]", device->epoch);
                return;
        }
        char *end;
        uint32_t id = (uint32_t) strtoul(rest, &end, 10);
        if (startswith(end, ",\"history\":{")) {
                bool more = hear_all(device, text, size, false) > 0;
                if (more)
                        read_history(device);
                else
                        device->paging = false;
        } else if (id == 1)
                connected(device, text, size);
        else
                send_answered(device, id, end);
}

/* --- connecting --- */

static void lost(Device *device) {
        uint64_t delay = RECONNECT_USEC << MIN(device->attempts, 5U);

        device->ready = device->paging = false;
        device->attempts++;
        /* None of what was under way will be answered. */
        for (unsigned i = 0; i < device->n_outgoing; i++)
                device->outgoing[i].command = 0;
        device->n_under_way = 0;
        device->due_at = boottime_usec() + delay / 2 + (uint64_t) random() % (delay / 2);
}

static void on_end(Endpoint *endpoint, int error) {
        Device *device = (Device *) endpoint;

        codes_add(&device->crowd->ended, endpoint->client.close_code);
        lost(device);
}

void device_connect(Device *device) {
        char text[4096];
        int n;

        device->away = device->connect_refused = false;
        device->endpoint.on_line = on_line;
        device->endpoint.on_end = on_end;
        device->next_command = 1;
        if (endpoint_open(&device->endpoint, device->person->address) < 0)
                return lost(device);
        if (*device->epoch)
                n = snprintf(text, sizeof(text),
                        "{\"id\":1,\"connect\":{\"token\":\"%s\",\"name\":\"scenario\",\"subs\":{\"%s\":{"
                        "\"recover\":true,"
                        "\"offset\":%" PRIu64 ",\"epoch\":\"%s\"}}}}",
                        device->person->token, device->conversation->id, device->offset, device->epoch);
        else
                n = snprintf(text, sizeof(text),
                        "{\"id\":1,\"connect\":{\"token\":\"%s\",\"name\":\"scenario\"}}",
                        device->person->token);
        endpoint_send(&device->endpoint, text, (size_t) n);
        device->due_at = boottime_usec() + CONNECT_TIMEOUT_USEC;
}

void device_leave(Device *device) {
        endpoint_close(&device->endpoint);
        lost(device);
        device->away = true;
        device->attempts = 0;
        device->due_at = 0;
}

static void look_after(Device *device, uint64_t now) {
        if (device->due_at == 0 || device->due_at > now)
                return;
        device->due_at = 0;
        if (device->ready) {
                device->holding = false;
                send_what_fits(device);
                return;
        }
        if (endpoint_is_open(&device->endpoint)) {
                if (!device->connect_refused)
                        device->crowd->n_gave_up++;
                endpoint_close(&device->endpoint);
                lost(device);
        } else
                device_connect(device);
}

static void tick(void *userdata) {
        static uint64_t last;
        uint64_t now = boottime_usec();

        if (now - last < 10 * USEC_PER_MSEC)
                return;
        last = now;
        for (unsigned k = 0; k < n_fleets; k++)
                for (unsigned i = 0; i < fleets[k].n; i++)
                        look_after(&fleets[k].devices[i], now);
}

void devices_add(Device *devices, unsigned n) {
        if (n_fleets == 0)
                loop_on_tick(tick, NULL);
        assert_se(n_fleets < MAX_FLEETS);
        fleets[n_fleets].devices = devices;
        fleets[n_fleets++].n = n;
        for (unsigned i = 0; i < n; i++)
                if (devices[i].window == 0)
                        devices[i].window = 8;
}

void devices_pair(
        Device *devices, const Conversation *conversations, unsigned first, unsigned n_pairs, Crowd *crowd) {
        for (unsigned i = 0; i < 2 * n_pairs; i++) {
                devices[i].crowd = crowd;
                devices[i].conversation = &conversations[i / 2];
                devices[i].person = &people[first + i];
                devices[i].other = &people[first + (i ^ 1)];
                devices[i].padding = devices[i].padding ?: 64;
        }
        devices_add(devices, 2 * n_pairs);
}

void devices_connect(Device *devices, unsigned n, unsigned at_once, double seconds) {
        uint64_t deadline = boottime_usec() + (uint64_t) (seconds * 1e6);
        unsigned n_begun = 0, n_ready = 0;

        while (n_ready < n) {
                while (n_begun < n && n_begun - n_ready < at_once)
                        device_connect(&devices[n_begun++]);
                loop_turn(1);
                while (n_ready < n_begun && devices[n_ready].ready)
                        n_ready++;
                if (boottime_usec() > deadline)
                        fail("only %u of %u devices could connect", n_ready, n);
        }
}

/* --- what came of it --- */

uint64_t devices_lost(const Device *devices, unsigned n) {
        uint64_t n_lost = 0;

        for (unsigned i = 0; i < n; i++) {
                const Device *device = &devices[i], *other = &devices[i ^ 1];
                n_lost += device->n_outgoing;
                if (device->away || !device->heard_from_start)
                        continue;
                n_lost += device->number > device->heard[0] ? device->number - device->heard[0] : 0;
                n_lost += other->number > device->heard[1] ? other->number - device->heard[1] : 0;
        }
        return n_lost;
}

static bool nothing_missing(void *userdata) {
        static uint64_t looked_at;
        const DeviceRange *range = userdata;
        uint64_t now = boottime_usec();

        if (now - looked_at < 20 * USEC_PER_MSEC)
                return false;
        looked_at = now;
        for (unsigned i = 0; i < range->n; i++)
                if (!range->devices[i].away && !range->devices[i].ready)
                        return false;
        return devices_lost(range->devices, range->n) == 0;
}

bool devices_settle(Device *devices, unsigned n, double seconds) {
        DeviceRange range = {devices, n};

        return loop_until(seconds, nothing_missing, &range);
}

bool devices_all_sent(void *userdata) {
        const DeviceRange *range = userdata;

        for (unsigned i = 0; i < range->n; i++)
                if (range->devices[i].n_outgoing > 0)
                        return false;
        return true;
}

void devices_join(Device *devices, unsigned n, Crowd *crowd) {
        for (unsigned i = 0; i < n; i++)
                devices[i].crowd = crowd;
}

/* --- talking --- */

void talk_begin(Talk *talk) {
        talk->order = talk->order ?: new0(unsigned, talk->n);
        if (!talk->order)
                fail("out of memory");
        for (unsigned i = 0; i < talk->n; i++) {
                unsigned k = (unsigned) random() % (i + 1);
                talk->order[i] = talk->order[k];
                talk->order[k] = i;
        }
        talk->begun_at = boottime_usec();
        talk->n_said = 0;
}

void talk_tick(void *userdata) {
        Talk *talk = userdata;

        if (talk->begun_at == 0)
                return;
        uint64_t due = (boottime_usec() - talk->begun_at) * talk->rate / USEC_PER_SEC;
        for (; talk->n_said < due; talk->n_said++)
                device_say(&talk->devices[talk->order[talk->n_said % talk->n]],
                        talk->begun_at + talk->n_said * USEC_PER_SEC / talk->rate);
}

void talk_end(Talk *talk) {
        talk->begun_at = 0;
}

/* --- what was seen --- */

static void codes_merge(Codes *codes, const Codes *from) {
        for (unsigned i = 0; i < from->n; i++)
                for (uint64_t k = 0; k < from->entries[i].n; k++)
                        codes_add(codes, from->entries[i].code);
}

void crowd_merge(Crowd *crowd, const Crowd *from) {
        crowd->n_sent += from->n_sent;
        crowd->n_acknowledged += from->n_acknowledged;
        crowd->n_received += from->n_received;
        crowd->n_recovered += from->n_recovered;
        crowd->n_pages += from->n_pages;
        crowd->n_gaps += from->n_gaps;
        crowd->n_duplicates += from->n_duplicates;
        crowd->n_disordered += from->n_disordered;
        crowd->n_unrecovered += from->n_unrecovered;
        crowd->n_gave_up += from->n_gave_up;
        codes_merge(&crowd->refused, &from->refused);
        codes_merge(&crowd->temporary, &from->temporary);
        codes_merge(&crowd->ended, &from->ended);
}

void latency_print_head(void) {
        printf("  what they felt, ms                             p50       p99     worst   of\n");
}

void latency_print(const char *what, const Histogram *histogram) {
        printf("  %-40s %9.2f %9.2f %9.2f   %" PRIu64 "\n", what,
                (double) histogram_quantile(histogram, 0.5) / 1e3,
                (double) histogram_quantile(histogram, 0.99) / 1e3, (double) histogram->max / 1e3,
                histogram->n);
}

void crowd_print_latency(const char *what, const Crowd *crowd) {
        char title[64];

        snprintf(title, sizeof(title), "%s: send to ack", what);
        latency_print(title, &crowd->acknowledged);
        snprintf(title, sizeof(title), "%s: send to receive", what);
        latency_print(title, &crowd->received);
}

bool crowd_is_whole(const Crowd *crowd, uint64_t n_lost) {
        return n_lost == 0 && crowd->n_gaps == 0 && crowd->n_duplicates == 0 && crowd->n_disordered == 0 &&
               codes_total(&crowd->refused) == 0;
}

bool crowd_print_faults(const char *who, const Crowd *crowd, uint64_t n_lost) {
        char text[256];

        printf("  %s: %" PRIu64 " sent, %" PRIu64 " acknowledged, %" PRIu64 " heard (%" PRIu64
               " recovered, %" PRIu64 " times by paging)\n",
                who, crowd->n_sent, crowd->n_acknowledged, crowd->n_received, crowd->n_recovered,
                crowd->n_unrecovered);
        printf("    %" PRIu64 " lost, %" PRIu64 " gaps, %" PRIu64 " doubles, %" PRIu64 " out of order\n",
                n_lost, crowd->n_gaps, crowd->n_duplicates, crowd->n_disordered);
        printf("    disconnected: %s\n", codes_text(&crowd->ended, text, sizeof(text)));
        printf("    refused for now: %s\n", codes_text(&crowd->temporary, text, sizeof(text)));
        if (crowd->n_gave_up > 0)
                printf("    began anew, not connected within 5 s: %" PRIu64 "\n", crowd->n_gave_up);
        printf("    refused for good: %s\n", codes_text(&crowd->refused, text, sizeof(text)));
        return crowd_is_whole(crowd, n_lost) && codes_total(&crowd->ended) == 0;
}
