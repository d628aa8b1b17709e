/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The events an operator may act on. Each has an entry in conf/stonechat.catalog (`journalctl -x`), which a
 * test compares with this list. An id never changes its meaning; new ones come from
 * `systemd-id128 new`. */

/* A role's process. */
#define MESSAGE_ID_ROLE_READY "560ee8795812449fac4764eed27128b7"
#define MESSAGE_ID_ROLE_STOPPING "9eed056a91db46fe83e25dcd720578dd"
#define MESSAGE_ID_ROLE_DEGRADED "2e9df1898b3a4fe4811e1154bedb74f2"
#define MESSAGE_ID_ROLE_RECOVERED "3fe39d83642543c78e1d8c8cd451fc37"
#define MESSAGE_ID_CONFIGURATION_PROBLEM "1289fd46d0444162b9b39d915ea5e452"
#define MESSAGE_ID_JOURNAL_LOST "15782e7f99e84438b1266612b8986995"
#define MESSAGE_ID_RELOADED "726c5b592db447aba6ef1e3b83483971"

/* Stores. */
#define MESSAGE_ID_STORE_FULL "5e6cdbd796d342e088b046769106dd20"
#define MESSAGE_ID_STORE_RECOVERED "0e63ea0817664e568520e87fadb1a391"
#define MESSAGE_ID_STORE_LOST "89cca3a1ac084934b0eb15b3c6ba4a24"
#define MESSAGE_ID_STORE_CONNECTED "c574a2eecb3e4ff2be06de24389db3fc"
#define MESSAGE_ID_STORE_INTEGRITY_OK "bd1984c351bb4a8a81a7ca0cafbb3612"
#define MESSAGE_ID_STORE_INTEGRITY_FAILED "b3d52368f9364ee79b7beccd86389a73"

/* What crosses between roles. */
#define MESSAGE_ID_INTENT_PARKED "d763aa798cd9486fa405a2c1fcbc8bdb"

/* The roles among each other. */
#define MESSAGE_ID_PEER_REFUSED "5b696d97491847949c184d1d05206c6f"
#define MESSAGE_ID_PEER_DEAD "f13fe308c73f4d5282f0a569eab3bc18"
#define MESSAGE_ID_CALL_REFUSED "a8f63161d6c54e95a7cb46f5282c0803"

/* Accounts and sessions. */
#define MESSAGE_ID_SESSIONS_PURGED "27be3fcb0abc457e90d192338a30c2a8"
#define MESSAGE_ID_TOKEN_KEY_CREATED "8268dac8ab2440c682f2f82ba0dfbae8"
#define MESSAGE_ID_TOKEN_KEY_ROTATED "05f10ebf0a994c94bd4f41a7227ae150"
#define MESSAGE_ID_TOKEN_KEYS_REVOKED "a0a43ec95b4c4de785276b0380c69216"
#define MESSAGE_ID_REFRESH_TOKEN_REUSED "303504bb68254643b1675f649c5519e6"

/* What the arbiter sees of the units. */
#define MESSAGE_ID_UNIT_UNHEALTHY "efed3cdb8b8246b3b34cb2d6fc87bbaf"
#define MESSAGE_ID_UNIT_HEALTHY "03166855a05b4b4cac60d4da32044f2e"

/* Connections. */
#define MESSAGE_ID_SLOW_CLIENT_CLOSED "928667281f5e4acb80060c2c04a134ce"
