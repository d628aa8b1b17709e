/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Sends entries to the journal without ever waiting for it: systemd's own sd_journal_sendv() blocks while the
 * journal does not read, and with it whatever thread logs. The format is that of its documentation, "Native
 * Journal Protocol": a datagram an entry.
 *
 * Thread-safe once it is open. */

#include <sys/uio.h>

#define JOURNAL_ADDRESS "/run/systemd/journal/socket"
#define JOURNAL_MAX_FIELDS 24

/* `address`: the path of the socket. What was open before is closed. */
int journal_open(const char *address);

/* Each field is "NAME=value", at most JOURNAL_MAX_FIELDS. -EAGAIN: the journal does not keep up, the entry is
 * lost. Others: it cannot be reached. */
int journal_send(const struct iovec *fields, int n_fields);
