/* SPDX-License-Identifier: Apache-2.0 */
#include "api/rest/route-table.h"

#include <stdio.h>

#include "util/string-util.h"

typedef struct Segment {
        const char *text; /* of a parameter: its name, without the braces */
        size_t size;
        bool parameter;
} Segment;

typedef struct HttpRoute {
        const MethodInfo *method;
        unsigned n_segments;
        Segment segments[ROUTE_MAX_SEGMENTS];
} HttpRoute;

struct RouteTable {
        size_t n_routes;
        HttpRoute routes[]; /* the more literal first */
};

/* "/a/b" are two segments, so are "/a/" (the second is empty); "" and what does not begin with a slash none.
 */
static int split(const char *path, Segment segments[static ROUTE_MAX_SEGMENTS], unsigned *ret_n) {
        unsigned n = 0;

        while (*path == '/') {
                size_t size = strcspn(++path, "/");
                if (n >= ROUTE_MAX_SEGMENTS)
                        return -E2BIG;
                segments[n++] = (Segment){.text = path, .size = size};
                path += size;
        }
        *ret_n = n;
        return *path || n == 0 ? -EINVAL : 0;
}

static int compile(const MethodInfo *method, HttpRoute *ret) {
        HttpRoute route = {.method = method};

        int r = split(method->http_path, route.segments, &route.n_segments);
        if (r < 0)
                return -EINVAL;
        FOREACH_ARRAY(segment, route.segments, route.n_segments) {
                if (segment->size == 0)
                        return -EINVAL;
                if (segment->text[0] != '{')
                        continue;
                if (segment->size < 3 || segment->text[segment->size - 1] != '}')
                        return -EINVAL;
                *segment = (Segment){
                        .text = segment->text + 1,
                        .size = segment->size - 2,
                        .parameter = true,
                };
        }
        *ret = route;
        return 0;
}

/* One bit a segment, the first the highest, set for parameters: where two routes fit the same path, the
 * smaller number has its literal first. */
static unsigned parameter_bits(const HttpRoute *route) {
        unsigned bits = 0;

        for (unsigned i = 0; i < ROUTE_MAX_SEGMENTS; i++)
                bits = bits << 1 | (i < route->n_segments && route->segments[i].parameter);
        return bits;
}

static int compare_routes(const void *a, const void *b) {
        unsigned x = parameter_bits(a), y = parameter_bits(b);
        return (x > y) - (x < y);
}

int route_table_new(RouteTable **ret, const MethodInfo *const *methods, size_t n_methods) {
        _cleanup_(route_table_freep) RouteTable *table =
                calloc(1, sizeof(RouteTable) + n_methods * sizeof(HttpRoute));
        if (!table)
                return -ENOMEM;
        FOREACH_ARRAY(method, methods, n_methods) {
                if (!(*method)->http_verb)
                        continue;
                int r = compile(*method, &table->routes[table->n_routes]);
                if (r < 0)
                        return r;
                table->n_routes++;
        }
        qsort(table->routes, table->n_routes, sizeof(HttpRoute), compare_routes);
        *ret = TAKE_PTR(table);
        return 0;
}

RouteTable *route_table_free(RouteTable *table) {
        free(table);
        return NULL;
}

static bool route_matches(const HttpRoute *route, const Segment *segments, unsigned n) {
        if (route->n_segments != n)
                return false;
        for (unsigned i = 0; i < n; i++) {
                const Segment *expected = &route->segments[i], *given = &segments[i];
                if (given->size == 0)
                        return false;
                if (!expected->parameter && (expected->size != given->size ||
                                                    memcmp(expected->text, given->text, given->size) != 0))
                        return false;
        }
        return true;
}

static void take_parameters(const HttpRoute *route, const Segment *segments, RouteMatch *ret) {
        *ret = (RouteMatch){.method = route->method};
        for (unsigned i = 0; i < route->n_segments; i++) {
                if (!route->segments[i].parameter)
                        continue;
                typeof(ret->parameters[0]) *parameter = &ret->parameters[ret->n_parameters++];
                parameter->name = route->segments[i].text;
                parameter->name_size = route->segments[i].size;
                parameter->value = segments[i].text;
                parameter->value_size = segments[i].size;
        }
}

static void add_verb(char allow[static ROUTE_ALLOW_SIZE], const char *verb) {
        size_t n = strlen(allow);

        snprintf(allow + n, ROUTE_ALLOW_SIZE - n, "%s%s", n > 0 ? ", " : "", verb);
        if (streq(verb, "GET"))
                add_verb(allow, "HEAD");
}

int route_table_match(const RouteTable *table, const char *verb, const char *path, RouteMatch *ret,
        char allow[static ROUTE_ALLOW_SIZE]) {
        Segment segments[ROUTE_MAX_SEGMENTS];
        const HttpRoute *first = NULL;
        unsigned n;

        allow[0] = 0;
        if (split(path, segments, &n) < 0)
                return -ENOENT;
        FOREACH_ARRAY(route, table->routes, table->n_routes) {
                if (!route_matches(route, segments, n))
                        continue;
                /* The most literal one says which resource it is; others are of other resources. */
                if (!first)
                        first = route;
                else if (parameter_bits(route) != parameter_bits(first))
                        break;
                if (streq(route->method->http_verb, verb)) {
                        take_parameters(route, segments, ret);
                        return 0;
                }
                add_verb(allow, route->method->http_verb);
        }
        if (!first)
                return -ENOENT;
        add_verb(allow, "OPTIONS");
        return -ENOTSUP;
}
