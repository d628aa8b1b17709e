/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which files make the configuration, in the order of reading (UAPI.6). A file that masks another one by
 * being empty or a link to /dev/null is in the list: reading it yields nothing. */

#define CONF_FILE_NAME "stonechat.conf"

/* dirs: NULL-terminated, most important first. *ret: NULL-terminated paths, freed by conf_files_free(). What
 * listing a directory that is there reports, or -ENOMEM. */
int conf_files_find(const char *const *dirs, char ***ret);
char **conf_files_free(char **files);
