/* SPDX-License-Identifier: Apache-2.0 */
#include "group/role-state.h"

void group_role_note_write(GroupRole *role, int r) {
        store_room_note(role->room, r);
}
