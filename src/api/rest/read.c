/* SPDX-License-Identifier: Apache-2.0 */
#include "api/rest/read.h"

#include <stdio.h>
#include <strings.h>

#include "schema-tables.h"
#include "util/string-util.h"
#include "web/http-target.h"

const char *rest_bearer_token(const HttpRequest *http) {
        const char *value = http_request_header(http, "authorization");

        if (!value || strncasecmp(value, "bearer ", 7) != 0)
                return NULL;
        value += 7;
        return value + strspn(value, " ");
}

/* Proxies append: the last address that is no proxy of ours is the client; what stands before it anybody may
 * have written. */
void rest_find_address(const HttpRequest *http, const Conf *conf, char *out, size_t size) {
        const char *trusted = conf->api_trusted_proxies;
        const char *list = http_request_header(http, "x-forwarded-for");

        snprintf(out, size, "%s", http_request_address(http));
        if (!list || !conf_list_contains(trusted, out))
                return;
        const char *end = list + strlen(list);
        while (end > list && conf_list_contains(trusted, out)) {
                const char *begin = end;
                while (begin > list && begin[-1] != ',')
                        begin--;
                const char *word = begin + strspn(begin, " \t");
                size_t length = strcspn(word, " \t,");
                if (length > 0 && length < size)
                        snprintf(out, size, "%.*s", (int) length, word);
                end = begin > list ? begin - 1 : list;
        }
}

static bool is_json(const char *content_type) {
        static const char json[] = "application/json";

        if (!content_type || strncasecmp(content_type, json, sizeof(json) - 1) != 0)
                return false;
        char next = content_type[sizeof(json) - 1];
        return next == 0 || next == ';' || next == ' ';
}

static int read_path(const RouteMatch *match, Call *call, JsonError *error) {
        FOREACH_ARRAY(parameter, match->parameters, match->n_parameters) {
                char *name = arena_strndup(&call->arena, parameter->name, parameter->name_size);
                char *value = arena_strndup(&call->arena, parameter->value, parameter->value_size);
                if (!name || !value)
                        return -ENOMEM;
                if (http_percent_decode(value, false) < 0)
                        return -EINVAL;
                int r = json_read_parameter(
                        &call->arena, call->method->request, call->request, name, value, error);
                if (r < 0)
                        return r;
        }
        return 0;
}

typedef struct QueryReader {
        Call *call;
        JsonError *error;
} QueryReader;

static int on_parameter(const char *name, const char *value, void *userdata) {
        QueryReader *reader = userdata;
        Call *call = reader->call;

        int r = json_read_parameter(
                &call->arena, call->method->request, call->request, name, value, reader->error);
        return r == -ENOENT ? 0 : r; /* as unknown members of a body */
}

static int read_body(const char *body, size_t size, Call *call, JsonError *error) {
        _cleanup_json_ json_t *json = NULL;

        int r = json_parse(body, size, &json, error);
        if (r < 0)
                return r;
        return json_read_message(&call->arena, call->method->request, json, &call->request, error);
}

/* Verbs whose requests carry their fields in the query; the others' in the body, where secrets belong. */
static bool uses_query(const MethodInfo *method) {
        return streq(method->http_verb, "GET") || streq(method->http_verb, "DELETE");
}

Sc__ErrorCode rest_read_request(
        const HttpRequest *http, const RouteMatch *match, Call *call, JsonError *error) {
        size_t size = 0;
        const char *body = http_request_body(http, &size);
        int r = 0;

        *error = (JsonError){};
        call->request = arena_new_message(&call->arena, call->method->request->descriptor);
        if (!call->request)
                return ERROR_OVERLOADED;
        r = read_path(match, call, error);
        if (r >= 0 && uses_query(call->method))
                r = http_request_query(http, on_parameter, &(QueryReader){.call = call, .error = error});
        else if (r >= 0 && size > 0) {
                if (!is_json(http_request_header(http, "content-type")))
                        return ERROR_UNSUPPORTED_MEDIA_TYPE;
                r = read_body(body, size, call, error);
        }
        if (r == -ENOMEM)
                return ERROR_OVERLOADED;
        if (r < 0)
                return error->code != ERROR_NONE ? error->code : ERROR_INVALID_ARGUMENT;
        return ERROR_NONE;
}
