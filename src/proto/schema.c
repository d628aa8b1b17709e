/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/schema.h"

#include "schema-tables.h"

static int compare_name(const void *name, const void *method) {
        return strcmp(name, (*(const MethodInfo *const *)method)->name);
}

const MethodInfo *schema_find_method(const char *name) {
        const MethodInfo *const *found =
                bsearch(name, schema_methods, schema_n_methods, sizeof(*schema_methods), compare_name);

        return found ? *found : NULL;
}

const ErrorInfo *schema_error(Sc__ErrorCode code) {
        /* The enum may hold any number that came over the wire. */
        unsigned index = (unsigned)code;

        return &schema_errors[index > 0 && index < schema_n_errors ? index : ERROR_INTERNAL];
}
