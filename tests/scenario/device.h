/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A well-behaved client in one conversation, as an SDK is one: it keeps its position, comes back after a
 * disconnection with it, reads what it missed from the connect reply, from publications behind it or from the
 * history, sends again what was not acknowledged (with the same client_msg_id, in order), and checks everything
 * it hears: offsets without gap and double, the texts of each sender in the order in which they were sent.
 *
 * A text is "WHEN SENDER NUMBER padding": when it was meant to be sent (boot time in microseconds), by which
 * person, and the how manieth of that person. */

#include "bench/histogram.h"
#include "scenario/world.h"

#define MAX_CODES 16U

/* How often each code was seen. */
typedef struct Codes {
        struct {
                unsigned code;
                uint64_t n;
        } entries[MAX_CODES];
        unsigned n;
} Codes;

void codes_add(Codes *codes, unsigned code);
uint64_t codes_total(const Codes *codes);
/* "3008 × 2, 3010 × 1", or "none". */
const char *codes_text(const Codes *codes, char *text, size_t size);

/* What devices that belong together saw. */
typedef struct Crowd {
        Histogram acknowledged, received; /* from when it was meant to be sent */
        uint64_t n_sent, n_acknowledged, n_received, n_recovered, n_pages;
        uint64_t n_gaps, n_duplicates, n_disordered; /* faults */
        uint64_t n_unrecovered; /* came back and had to page through the history */
        uint64_t n_gave_up; /* were not connected in time and began anew */
        Codes refused; /* sends, for good: faults */
        Codes temporary; /* sends, for now */
        Codes ended; /* connections, by close code; 0: without */
        uint64_t
                slow_usec; /* sends that take longer set last_slow_at when they are done; 0: not looked for */
        uint64_t last_slow_at, n_slow;
} Crowd;

typedef struct Outgoing {
        uint64_t created_at;
        uint32_t command; /* under way with this id; 0: to be sent */
        bool done;
} Outgoing;

typedef struct Device {
        Endpoint endpoint; /* first */
        Crowd *crowd;
        const Person *person;
        const Person *other;
        const Conversation *conversation;
        bool ready; /* connected and signed in */
        bool away; /* deliberately */
        bool connect_refused; /* for now */
        uint64_t ready_at;
        bool paging; /* reads its history */
        bool holding; /* something was refused for now: first what is under way has to be answered */
        char epoch[UUID_TEXT_SIZE];
        uint64_t offset;
        bool heard_from_start; /* so that the first number of each sender is 0 */
        uint64_t heard[2]; /* how many of mine, how many of the other's */
        uint32_t next_command;
        unsigned window; /* messages under way at a time */
        unsigned padding;
        unsigned attempts;
        uint64_t due_at; /* to come back or to send again; 0: nothing */
        /* messages from `number` on, the oldest first */
        Outgoing *outgoing;
        unsigned n_outgoing, n_allocated, n_under_way;
        uint64_t number;
        /* where each was acknowledged, by its number; 0: unknown */
        uint64_t *seqs;
        size_t n_seqs;
} Device;

/* Zero-initialised ones that stay where they are: the loop looks after them. */
void devices_add(Device *devices, unsigned n);
/* Two people and their conversation, a device each: devices[2 i] and devices[2 i + 1]. */
void devices_pair(
        Device *devices, const Conversation *conversations, unsigned first, unsigned n_pairs, Crowd *crowd);

/* Connects (or comes back). */
void device_connect(Device *device);
/* Ends the connection and stays away until device_connect(). */
void device_leave(Device *device);
/* All of them, not more than that many at once; ends the program if it takes longer than that. */
void devices_connect(Device *devices, unsigned n, unsigned at_once, double seconds);
/* One message, sent as soon as the window has room. */
void device_say(Device *device, uint64_t when);

/* Until all are acknowledged and heard by everybody who is connected; what is missing then is lost. */
bool devices_settle(Device *devices, unsigned n, double seconds);
/* Messages not acknowledged, and messages of a pair that one of its two devices, who is not away, has not heard. */
uint64_t devices_lost(const Device *devices, unsigned n);

typedef struct DeviceRange {
        const Device *devices;
        unsigned n;
} DeviceRange;
/* A condition for loop_until() with a DeviceRange: nothing is to be sent or under way. */
bool devices_all_sent(void *userdata);
/* From now on that is where they count. */
void devices_join(Device *devices, unsigned n, Crowd *crowd);

/* Devices that take turns, in random order, at a fixed rate however late the answers come. */
typedef struct Talk {
        Device *devices;
        unsigned n, rate;
        unsigned *order;
        uint64_t begun_at, n_said;
} Talk;

void talk_tick(void *userdata); /* for loop_on_tick() */
void talk_begin(Talk *talk);
void talk_end(Talk *talk);

/* Adds the counters, not the latencies. */
void crowd_merge(Crowd *crowd, const Crowd *from);
void latency_print_head(void);
void latency_print(const char *what, const Histogram *histogram);
/* Prints p50, p99 and worst. */
void crowd_print_latency(const char *what, const Crowd *crowd);
/* Whether nothing was lost, doubled, out of order or refused, whoever was disconnected. */
bool crowd_is_whole(const Crowd *crowd, uint64_t n_lost);
/* Prints the counters; true if nothing is wrong with them and nobody was disconnected. */
bool crowd_print_faults(const char *who, const Crowd *crowd, uint64_t n_lost);
