/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Tables and indexes of an SQLite store. */

#include "store/sqlite/connection.h"

/* The way records are laid out in tables, PRAGMA user_version. It grows when a program that knows only the
 * older one could no longer work; new tables, new indexes and new fields need no new number. (An index that
 * changes needs a new name.) */
#define SQLITE_SCHEMA_VERSION 2

/* Creates what is missing, adds columns for new fields, and brings an older layout up to date
 * (migrate.h), in one transaction: -EUCLEAN if the store is newer than this program. */
int sqlite_schema_ensure(SqliteConnection *connection, const MessageInfo *const *records);
