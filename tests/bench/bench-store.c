/* SPDX-License-Identifier: Apache-2.0 */

/* How many messages a second the store makes durable, and how long each takes, beside a bare loop of write
 * and fdatasync in the same directory.
 *
 *   bench-store [directory [seconds [outstanding [conversations [URI]]]]]
 *
 * With a URI it is PostgreSQL that stores them: in a schema "bench", which is not removed. The server should keep
 * its files on the file system of the directory. */

#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "histogram.h"
#include "schema-tables.h"
#include "store/store.h"
#include "util/fd-util.h"
#include "util/id.h"
#include "util/string-util.h"
#include "util/time-util.h"

#define TEXT_SIZE 100 /* bytes of a message */

typedef struct Conversation {
        struct Bench *bench;
        char id[UUID_TEXT_SIZE];
        char members[2][UUID_TEXT_SIZE];
        uint64_t last_seq, begin_usec;
} Conversation;

typedef struct Bench {
        Store *store;
        Conversation *conversations, **idle;
        unsigned n_conversations, n_idle, n_outstanding;
        uint64_t end_usec, n_failed;
        Histogram latency;
} Bench;

static void append(Bench *bench);

static void on_appended(int r, const StoreAppended *appended, void *userdata) {
        Conversation *c = userdata;
        Bench *bench = c->bench;
        uint64_t now = boottime_usec();

        bench->n_failed += r < 0;
        c->last_seq = appended->last_seq;
        histogram_add(&bench->latency, now - c->begin_usec);
        bench->idle[bench->n_idle++] = c;
        bench->n_outstanding--;
        if (now < bench->end_usec)
                append(bench);
}

/* The next message of a random conversation that has none on its way. */
static void append(Bench *bench) {
        static char text[TEXT_SIZE + 1];
        Sc__Message message = SC__MESSAGE__INIT, *entries[] = {&message};
        char id[UUID_TEXT_SIZE];

        if (!text[0])
                memset(text, 'x', TEXT_SIZE);
        unsigned pick = (unsigned) random() % bench->n_idle;
        Conversation *c = bench->idle[pick];
        bench->idle[pick] = bench->idle[--bench->n_idle];
        uuid_v7(id);
        message.conversation = c->id;
        message.sender = c->members[random() % 2];
        message.client_msg_id = id;
        message.kind = (char *) "text";
        message.body_case = SC__MESSAGE__BODY_TEXT;
        message.text = text;
        message.created_at = unix_msec();
        message.count = c->last_seq + 1;
        c->begin_usec = boottime_usec();
        const StoreAppend request = {
                .conversation = c->id, .after_seq = c->last_seq, .entries = entries, .n = 1};
        int r = store_append_start(bench->store, &request, on_appended, c);
        if (r < 0) {
                fprintf(stderr, "Failed to append: %s\n", strerror(-r));
                exit(EXIT_FAILURE);
        }
        bench->n_outstanding++;
}

static double cpu_seconds(void) {
        struct rusage u;

        getrusage(RUSAGE_SELF, &u);
        return (double) (u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
               (double) (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void run(Bench *bench, sd_event *event, unsigned seconds, unsigned outstanding) {
        StoreStatistics s;
        uint64_t begin = boottime_usec();
        double cpu = cpu_seconds();

        bench->end_usec = begin + seconds * USEC_PER_SEC;
        while (bench->n_outstanding < outstanding)
                append(bench);
        while (bench->n_outstanding > 0)
                sd_event_run(event, UINT64_MAX);
        double elapsed = (double) (boottime_usec() - begin) / 1e6;
        double n = (double) bench->latency.n;
        cpu = cpu_seconds() - cpu;
        store_get_statistics(bench->store, &s);
        printf("store: %.0f messages/s, %.1f a commit, %.2f cores, %.1f us of processor a message, %llu "
               "failed\n",
                n / elapsed, n / (double) s.commits, cpu / elapsed, cpu * 1e6 / n,
                (unsigned long long) bench->n_failed);
        histogram_print(&bench->latency, "append");
}

static int bench_store(const char *directory, unsigned seconds, unsigned outstanding, unsigned conversations,
        const char *uri) {
        static const MessageInfo *const records[] = {&sc__message__info, NULL};
        sd_event *event;
        Bench bench = {.n_conversations = conversations, .n_idle = conversations};
        const StoreConfig config = {.kind = uri ? "postgresql" : "sqlite",
                .name = "bench",
                .uri = uri,
                .timeout_usec = 10 * USEC_PER_SEC,
                .directory = directory,
                .records = records,
                .n_readers = 1,
                .batch_operations = 64,
                .max_queued = outstanding};

        setenv("STONECHAT_MODULE_DIRECTORY", STORE_MODULE_DIRECTORY, false);
        int r = sd_event_new(&event);
        if (r >= 0)
                r = store_open(&bench.store, event, &config);
        if (r < 0)
                return r;
        bench.conversations = new0(Conversation, conversations);
        bench.idle = new0(Conversation *, conversations);
        for (unsigned i = 0; i < conversations; i++) {
                Conversation *c = &bench.conversations[i];
                c->bench = &bench;
                uuid_v7(c->id);
                uuid_v7(c->members[0]);
                uuid_v7(c->members[1]);
                bench.idle[i] = c;
        }
        run(&bench, event, seconds, outstanding);
        store_close(bench.store);
        sd_event_unref(event);
        free(bench.conversations);
        free(bench.idle);
        return 0;
}

static int bench_fsync(const char *directory) {
        _cleanup_free_ char *path = format_string("%s/bench.log", directory);
        _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        static const char page[4096];
        static Histogram latency;
        uint64_t begin = boottime_usec(), now = begin;

        if (fd < 0)
                return -errno;
        for (; now - begin < USEC_PER_SEC; now = boottime_usec()) {
                if (write(fd, page, sizeof(page)) < 0 || fdatasync(fd) < 0)
                        return -errno;
                histogram_add(&latency, boottime_usec() - now);
        }
        printf("bare write and fdatasync: %.0f/s\n", (double) latency.n * 1e6 / (double) (now - begin));
        histogram_print(&latency, "fdatasync");
        return 0;
}

static unsigned argument(int argc, char **argv, int i, unsigned fallback) {
        return argc > i ? (unsigned) strtoul(argv[i], NULL, 10) : fallback;
}

int main(int argc, char **argv) {
        unsigned seconds = argument(argc, argv, 2, 5), outstanding = argument(argc, argv, 3, 256);
        unsigned conversations = argument(argc, argv, 4, 1000);
        _cleanup_free_ char *directory =
                format_string("%s/bench-store-XXXXXX", argc > 1 ? argv[1] : "/var/tmp");

        if (outstanding == 0 || outstanding > conversations || seconds == 0) {
                fprintf(stderr, "There must be at least as many conversations as outstanding messages.\n");
                return EXIT_FAILURE;
        }
        if (!directory || !mkdtemp(directory)) {
                fprintf(stderr, "Failed to make a directory: %m\n");
                return EXIT_FAILURE;
        }
        printf("%u conversations, %u messages of %u bytes outstanding, %u s\n", conversations, outstanding,
                TEXT_SIZE, seconds);
        int r = bench_fsync(directory);
        if (r >= 0)
                r = bench_store(directory, seconds, outstanding, conversations, argc > 5 ? argv[5] : NULL);
        if (r < 0)
                fprintf(stderr, "Failed: %s\n", strerror(-r));
        if (chdir(directory) == 0) {
                static const char *const files[] = {
                        "bench.db", "bench.db-wal", "bench.db-shm", "bench.db.lock", "bench.log"};
                FOREACH_ARRAY(file, files, ELEMENTSOF(files))
                        unlink(*file);
                rmdir(directory);
        }
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
