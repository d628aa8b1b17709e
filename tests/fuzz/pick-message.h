/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The first line of an input names the type of message, "stonechat.v1.User", so that a corpus stays good
 * when types are added; any other line picks one all the same. */

#include "proto/schema.h"

/* Moves *data behind the line. */
static const MessageInfo *pick_message(const uint8_t **data, size_t *size) {
        const uint8_t *line = *data, *end = *size > 0 ? memchr(line, '\n', *size) : NULL;
        size_t length = end ? (size_t) (end - line) : 0, sum = 0;

        if (!end)
                return schema_messages[0];
        *data += length + 1;
        *size -= length + 1;
        for (size_t i = 0; i < schema_n_messages; i++) {
                const char *name = schema_messages[i]->descriptor->name;

                if (strlen(name) == length && memcmp(name, line, length) == 0)
                        return schema_messages[i];
        }
        for (size_t i = 0; i < length; i++)
                sum += line[i];
        return schema_messages[sum % schema_n_messages];
}
