/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The REST routes, compiled once from the methods' "VERB /path/{field}" (proto/): which method a request
 * means, and the fields that its path fills in. A literal segment wins over a {field}, whatever the verb. */

#include "proto/schema.h"

#define ROUTE_MAX_SEGMENTS 8U /* of a path; longer ones match nothing */
#define ROUTE_ALLOW_SIZE 64U

typedef struct RouteTable RouteTable;

typedef struct RouteMatch {
        const MethodInfo *method;
        unsigned n_parameters;
        struct {
                const char *name; /* the table's */
                size_t name_size;
                const char *value; /* points into the path, as that is: still to be percent-decoded */
                size_t value_size;
        } parameters[ROUTE_MAX_SEGMENTS];
} RouteMatch;

/* -EINVAL: a method's path is malformed. */
int route_table_new(RouteTable **ret, const MethodInfo *const *methods, size_t n_methods);
RouteTable *route_table_free(RouteTable *table);
DEFINE_CLEANUP(RouteTable *, route_table_free);

/* `path` as http_request_path() has it. 0; -ENOENT: no such path; -ENOTSUP: the path has no such verb, and `allow`
 * lists those it has ("GET, HEAD, POST, OPTIONS"). */
int route_table_match(const RouteTable *table, const char *verb, const char *path, RouteMatch *ret,
        char allow[static ROUTE_ALLOW_SIZE]);
