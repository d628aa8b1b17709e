/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/stream.h"

RpcMessage rpc_message_from_envelope(const Sc__Envelope *envelope, Trace *trace) {
        RpcMessage message = {
                .method = envelope->method,
                .caller = envelope->caller,
                .intent = envelope->intent,
                .timeout_usec = envelope->timeout_ms * 1000ULL,
                .order = envelope->order,
                .payload = envelope->payload.data,
                .payload_size = envelope->payload.len,
        };

        if (envelope->trace) {
                memcpy(trace->id, envelope->trace->id.data, sizeof(trace->id));
                trace->parent = envelope->trace->parent;
                trace->sampled = envelope->trace->sampled;
                message.trace = trace;
        }
        return message;
}

Sc__Envelope rpc_message_to_envelope(
        Sc__Envelope__Kind kind, uint64_t id, const RpcMessage *message, Sc__Trace *wire_trace) {
        Sc__Envelope envelope = SC__ENVELOPE__INIT;

        envelope.kind = kind;
        envelope.id = id;
        if (message->method)
                envelope.method = (char *) message->method;
        envelope.caller = (Sc__Caller *) message->caller;
        envelope.intent = (Sc__Envelope__Delivery *) message->intent;
        envelope.order = message->order;
        envelope.payload = (ProtobufCBinaryData){message->payload_size, (uint8_t *) message->payload};
        if (message->trace) {
                *wire_trace = (Sc__Trace) SC__TRACE__INIT;
                wire_trace->id =
                        (ProtobufCBinaryData){sizeof(message->trace->id), (uint8_t *) message->trace->id};
                wire_trace->parent = message->trace->parent;
                wire_trace->sampled = message->trace->sampled;
                envelope.trace = wire_trace;
        }
        return envelope;
}
