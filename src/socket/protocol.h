/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The numbers of the client protocol that are not in client.proto. docs/protocol.md says what each means to
 * a client. */

#include "proto/schema.h"

/* Why a connection ends: code and reason of the close frame. Clients come back after 3000 … 3499, and stay
 * away after 3500 … 3999. */
typedef struct Disconnect {
        unsigned code;
        const char *reason;
} Disconnect;

#define DISCONNECT_SHUTDOWN ((Disconnect){3001, "shutdown"})
#define DISCONNECT_SERVER_ERROR ((Disconnect){3004, "internal server error"})
#define DISCONNECT_EXPIRED ((Disconnect){3005, "connection expired"})
#define DISCONNECT_SLOW ((Disconnect){3008, "slow"})
#define DISCONNECT_NO_PONG ((Disconnect){3012, "no pong"})
#define DISCONNECT_TOO_MANY_REQUESTS ((Disconnect){3013, "too many requests"})
#define DISCONNECT_INVALID_TOKEN ((Disconnect){3500, "invalid token"})
#define DISCONNECT_SESSION_REVOKED                                                                          \
        ((Disconnect){3500, "session revoked"}) /* the same to a client: sign in anew */
#define DISCONNECT_BAD_REQUEST ((Disconnect){3501, "bad request"})
#define DISCONNECT_STALE ((Disconnect){3502, "stale"})
#define DISCONNECT_CONNECTION_LIMIT ((Disconnect){3504, "connection limit"})

/* Why a server-side subscription ends: for good, or to begin anew at another place. */
#define UNSUBSCRIBE_CODE_SERVER 2000U
#define UNSUBSCRIBE_CODE_INSUFFICIENT 2500U

/* Errors of commands that only this protocol has; the others stand in proto/stonechat/v1/errors.proto. */
typedef struct ProtocolError {
        uint32_t code;
        const char *name;
        bool temporary;
} ProtocolError;

#define PROTOCOL_ERROR_ALREADY_SUBSCRIBED ((ProtocolError){105, "already_subscribed", false})
#define PROTOCOL_ERROR_LIMIT_EXCEEDED ((ProtocolError){106, "limit_exceeded", false})
#define PROTOCOL_ERROR_NOT_AVAILABLE ((ProtocolError){108, "not_available", false})
#define PROTOCOL_ERROR_UNRECOVERABLE_POSITION ((ProtocolError){112, "unrecoverable_position", false})

static inline ProtocolError protocol_error(Sc__ErrorCode code) {
        const ErrorInfo *info = schema_error(code);

        return (ProtocolError){info->client, info->name, info->temporary};
}
