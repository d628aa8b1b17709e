# SPDX-License-Identifier: Apache-2.0
"""Writes the OpenAPI 3.1 description of the REST surface."""
import json
import re

from .model import INTEGERS, Proto
from .tables import HEAD, c_string

IDENTIFIER = '^[A-Za-z0-9_.:#@-]*$'
ABOUT = ('Every method of Stonechat over HTTP. Bodies are JSON in UTF-8. In answers a field with its default value '
         '(zero, empty, false) is left out; unknown fields must be ignored. Times are Unix time in milliseconds. '
         'Sizes are bytes of UTF-8. In requests null is the same as absent, and integers may be given as strings of digits. '
         'Errors are problem documents (RFC 9457) with a stable `code`.')
BASE64 = '^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$'
TEXT = r'^[^\u0000]*$'  # no NUL


def sentence(text):
    """The first one, for a summary."""
    return re.split(r'(?<=[.?;])\s', text, 1)[0].rstrip('.;')


def reference(message):
    return {'$ref': f'#/components/schemas/{message.name}'}


def scalar(field):
    """The schema of one value of the field."""
    rules = field.rules
    if field.message:
        return reference(field.message)
    if field.enum:
        return {'type': 'string', 'enum': [name for _, name in field.enum.values]}
    if field.type == Proto.TYPE_BOOL:
        return {'type': 'boolean'}
    if field.is_integer:
        bits, signed = INTEGERS[field.type]
        result = {'type': 'integer', 'format': f'int{bits}' if signed else f'uint{bits}'}
        # One beyond 63 bits has to be a string in JSON.
        result['minimum'] = -(1 << (bits - 1)) if signed else 0
        result['maximum'] = rules.max or (1 << min(bits, 63) if not signed else 1 << (bits - 1)) - 1
        if rules.default:
            result['default'] = rules.default
        return result
    if field.is_bytes:
        return {} if rules.raw_json else {'type': 'string', 'contentEncoding': 'base64', 'pattern': BASE64}
    result = {'type': 'string', 'pattern': IDENTIFIER if rules.identifier else TEXT}
    if rules.secret:
        result['format'] = 'password'
    return result


def field_schema(field):
    rules, result = field.rules, scalar(field)
    if field.is_map:
        result = {'type': 'object', 'additionalProperties': scalar(field.message.fields[1])}
        low, high = 'minProperties', 'maxProperties'
    elif field.repeated:
        result = {'type': 'array', 'items': result}
        low, high = 'minItems', 'maxItems'
    else:
        low, high = 'minLength', 'maxLength'
    if field.has_size and not (rules.raw_json and not field.repeated):
        minimum = max(rules.min_size, 1 if rules.required else 0)
        as_text = (lambda n: (n + 2) // 3 * 4) if field.is_bytes and not field.repeated else (lambda n: n)
        if minimum:
            result[low] = as_text(minimum)
        if rules.max_size:
            result[high] = as_text(rules.max_size)
    if field.is_integer and not field.repeated and rules.required and 'minimum' in result:
        result['minimum'] = 1  # zero counts as absent
    if field.comment:
        result['description'] = field.comment
    return result


def or_null(field, schema):
    """Of a request: whoever gives nothing may say so."""
    if field.rules.required or field.rules.raw_json and not field.repeated:
        return schema
    if '$ref' in schema:
        return {'anyOf': [schema, {'type': 'null'}]}
    result = dict(schema, type=[schema['type'], 'null'])
    if 'enum' in schema:
        result['enum'] = schema['enum'] + [None]
    return result


SOME = {'not': {'type': 'null'}}


def exclusive_numbers(names):
    """At most one of these is given and not zero."""
    return [{'not': {'required': [a, b], 'properties': {name: {'type': 'integer', 'minimum': 1} for name in (a, b)}}}
            for n, a in enumerate(names) for b in names[n + 1:]]


def one_of(message, oneof):
    """Exactly one of the members, with a value."""
    names = [f.name for f in message.members_of(oneof)]
    return [{'required': [name], 'properties': {other: {'type': 'string', 'minLength': 1} if other == name else {'type': 'null'}
                                                for other in names}} for name in names]


def between(message, names):
    """What holds between the fields of these names, as keywords of their schema."""
    result, all_of = {}, []
    for group in message.exclusive:
        if set(group) <= names:
            all_of += exclusive_numbers(group)
    for i, oneof in enumerate(message.oneofs):
        members = [f.name for f in message.shown_fields if f.oneof == i and f.name in names]
        if oneof in message.one_of:
            result['oneOf'] = one_of(message, oneof)
        else:
            all_of += [{'not': {'required': [a, b], 'properties': {a: SOME, b: SOME}}}
                       for n, a in enumerate(members) for b in members[n + 1:]]
    return result | ({'allOf': all_of} if all_of else {})


def message_schema(message, without=(), request=False):
    fields = [f for f in message.shown_fields if f.name not in without]
    result = {'type': 'object', 'properties': {
        f.name: or_null(f, field_schema(f)) if request else field_schema(f) for f in fields}}
    if message.comment and not without:
        result['description'] = message.comment
    required = [f.name for f in fields if f.rules.required]
    if required:
        result['required'] = required
    return result | between(message, {f.name for f in fields})


def parameter(field, place):
    schema = field_schema(field)
    schema.pop('description', None)
    result = {'name': field.name, 'in': place, 'required': place == 'path' or field.rules.required, 'schema': schema}
    if field.comment:
        result['description'] = field.comment
    return result


def exclusive_parameters(message, names):
    """Parameters that exclude each other: the members of one object, so that its schema can say so."""
    fields = [f for f in message.fields if f.name in names]
    return {'name': '_or_'.join(names), 'in': 'query', 'style': 'form', 'explode': True, 'required': False,
            'description': f'Each of these is a query parameter: {", ".join(names)}. At most one of them.',
            'schema': {'type': 'object', 'properties': {f.name: field_schema(f) for f in fields}} | {'allOf': exclusive_numbers(names)}}


def operation(method):
    request = method.request
    in_query = method.verb in ('GET', 'DELETE')
    result = {'operationId': method.name, 'tags': [method.service], 'summary': sentence(method.comment),
              'description': method.comment}
    parameters = [parameter(f, 'path') for f in request.fields if f.name in method.path_fields]
    rest = [f for f in request.fields if f.name not in method.path_fields]
    if in_query:
        grouped = {name for group in request.exclusive for name in group}
        parameters += [exclusive_parameters(request, group) for group in request.exclusive]
        parameters += [parameter(f, 'query') for f in rest if f.name not in grouped]
    if parameters:
        result['parameters'] = parameters
    if rest and not in_query:
        schema = message_schema(request, method.path_fields, True) if method.path_fields else reference(request)
        result['requestBody'] = {'required': any(f.rules.required for f in rest) or bool(request.one_of),
                                 'content': {'application/json': {'schema': schema}}}
    result['responses'] = {
        str(method.status): {'description': 'Done.', 'content': {'application/json': {'schema': reference(method.response)}}},
        'default': {'$ref': '#/components/responses/Problem'},
    }
    if method.access == 'public':
        result['security'] = []
    return result


def used_messages(schema):
    """Those that REST methods refer to, whole."""
    found = {}

    def visit(message, itself=True):
        if message.full_name in found:
            return
        if itself and not message.is_map_entry:
            found[message.full_name] = message
        for field in message.shown_fields:
            if field.message:
                visit(field.message)

    for method in rest_methods(schema):
        visit(method.request, method.verb not in ('GET', 'DELETE') and not method.path_fields and bool(method.request.fields))
        visit(method.response)
    return sorted(found.values(), key=lambda m: m.name)


def rest_methods(schema):
    return [m for m in schema.methods if m.verb]


def problem(schema):
    errors = [e for e in schema.errors if e.number]
    return {
        'type': 'object',
        'description': 'A problem document (RFC 9457).',
        'required': ['type', 'title', 'status', 'code'],
        'properties': {
            'type': {'type': 'string', 'format': 'uri-reference'},
            'title': {'type': 'string', 'description': 'The same for every problem with this code.'},
            'status': {'type': 'integer', 'minimum': 400, 'maximum': 599, 'description': 'The HTTP status.'},
            'detail': {'type': 'string', 'description': 'What was wrong this time, with the name of the field.'},
            'code': {'type': 'string', 'enum': [e.code for e in errors],
                     'description': 'Stable. ' + ' '.join(f'`{e.code}` ({e.http}): {e.title}.' for e in errors)},
        },
    }


def document(schema, version):
    paths = {}
    for method in rest_methods(schema):
        paths.setdefault(method.path, {})[method.verb.lower()] = operation(method)
    services = [name for name in schema.services if any(m.service == name for m in rest_methods(schema))]
    tags = [{'name': name} | ({'description': schema.services[name]} if schema.services[name] else {}) for name in services]
    requests = {method.request.full_name for method in rest_methods(schema)}
    schemas = {message.name: message_schema(message, request=message.full_name in requests) for message in used_messages(schema)}
    schemas['Problem'] = problem(schema)
    return {
        'openapi': '3.1.0',
        'info': {'title': 'Stonechat', 'version': version, 'description': ABOUT,
                 'license': {'name': 'Apache License 2.0', 'identifier': 'Apache-2.0'}},
        'servers': [{'url': '/'}],
        'security': [{'bearer': []}],
        'tags': tags,
        'paths': dict(sorted(paths.items())),
        'components': {
            'schemas': schemas,
            'responses': {'Problem': {'description': 'The request failed.', 'content': {
                'application/problem+json': {'schema': {'$ref': '#/components/schemas/Problem'}}}}},
            'securitySchemes': {'bearer': {'type': 'http', 'scheme': 'bearer', 'bearerFormat': 'JWT',
                                           'description': 'The access token of auth.login.'}},
        },
    }


def files(schema, version):
    """Names and contents."""
    text = document(schema, version)
    compact = json.dumps(text, ensure_ascii=False, separators=(',', ':'))
    lines = '\n'.join('        ' + c_string(compact[i:i + 90]) for i in range(0, len(compact), 90))
    source = (f'{HEAD}#include "proto/schema.h"\n\nconst char schema_openapi[] =\n{lines};\n\n'
              'const size_t schema_openapi_size = sizeof(schema_openapi) - 1;\n')
    return {'openapi.json': json.dumps(text, ensure_ascii=False, indent=2) + '\n', 'openapi.c': source}
