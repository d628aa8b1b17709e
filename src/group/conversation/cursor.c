/* SPDX-License-Identifier: Apache-2.0 */
#include "group/conversation/cursor.h"

#include "schema-tables.h"

StoreItem cursor_patch(const Sc__Member *record) {
        static StoreChange changes[3];

        if (changes[0].field == changes[1].field) {
                changes[0] = (StoreChange){store_field(&sc__member__info, "read_seq"), STORE_MAX};
                changes[1] = (StoreChange){store_field(&sc__member__info, "read_count"), STORE_MAX};
                changes[2] = (StoreChange){store_field(&sc__member__info, "has_written"), STORE_MAX};
        }
        return (StoreItem){.verb = STORE_PATCH,
                .info = &sc__member__info,
                .record = &record->base,
                .changes = changes,
                .n_changes = ELEMENTSOF(changes)};
}
