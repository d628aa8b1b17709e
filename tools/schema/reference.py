# SPDX-License-Identifier: Apache-2.0
"""Writes the API reference, Markdown."""
from .model import INTEGERS, Proto
from .openapi import used_messages

HEAD = '''# The methods

Each can be called over REST and, but for those without a sign-in, by `rpc` of the client socket with the same name and
the same JSON. A field with its default value (zero, empty, false) is left out of answers. Times are Unix time in
milliseconds, sizes are bytes. `GET` and `DELETE` take what is not in the path as query parameters.

JSON is UTF-8, at most 32 levels deep; a name twice in one object and the character NUL are refused. Unknown fields are
ignored, `null` counts as absent. Integers may be given as strings of digits; one above 2⁶³-1 must be, and is answered as
one. Base64 is the standard alphabet with padding.
'''


def anchor(name):
    return name.lower().replace('.', '')


def linked(message):
    return f'[{message.name}](#{anchor(message.name)})'


def type_name(field):
    if field.is_map:
        return f'object of {type_name(field.message.fields[1])}'
    if field.message:
        name = linked(field.message)
    elif field.enum:
        name = ', '.join(f'`{value}`' for _, value in field.enum.values)
    elif field.is_integer:
        bits, signed = INTEGERS[field.type]
        name = f'integer, {bits} bits' if signed else f'integer ≥ 0, {bits} bits'
    elif field.is_bytes:
        name = 'any JSON' if field.rules.raw_json else 'base64'
    else:
        name = 'boolean' if field.type == Proto.TYPE_BOOL else 'string'
    return f'list of {name}' if field.repeated else name


def rules_text(field):
    rules, unit = field.rules, 'elements' if field.repeated else 'bytes'
    parts = ['required'] if rules.required else []
    if rules.min_size:
        parts.append(f'at least {rules.min_size} {unit}')
    if rules.max_size:
        parts.append(f'at most {rules.max_size} {unit}')
    if rules.max:
        parts.append(f'at most {rules.max}')
    if rules.default:
        parts.append(f'default {rules.default}')
    if rules.identifier:
        parts.append('only `A-Z a-z 0-9 - _ . : # @`')
    if rules.make_id:
        parts.append('default: a new UUID')
    return ', '.join(parts)


def field_table(message):
    if not message.shown_fields:
        yield 'No fields.\n'
        return
    yield '| field | type | rules | |\n|---|---|---|---|'
    for field in message.shown_fields:
        notes = field.comment
        if field.oneof is not None and sum(f.oneof == field.oneof for f in message.shown_fields) > 1:
            others = [f'`{f.name}`' for f in message.shown_fields if f.oneof == field.oneof and f is not field]
            if message.oneofs[field.oneof] in message.one_of:
                others[0] = f'{others[0]}; one of them is required'
            notes = f'{notes} Not together with {", ".join(others)}.'.strip()
        for group in message.exclusive:
            if field.name in group:
                notes = f'{notes} Not together with {", ".join(f"`{name}`" for name in group if name != field.name)}.'.strip()
        cells = [f'`{field.name}`', type_name(field), rules_text(field), notes]
        yield '| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |'
    yield ''


def method_section(method):
    yield f'### {method.name}\n'
    yield f'{method.comment}\n'
    if method.verb:
        yield f'`{method.verb} {method.path}` answers {method.status} and {linked(method.response)}.'
    else:
        yield f'By `rpc` only; answers {linked(method.response)}.'
    if method.access == 'public':
        yield 'No sign-in needed.'
    if method.idempotent:
        yield 'Safe to repeat.'
    yield ''
    yield from field_table(method.request)


def text(schema):
    methods = [m for m in schema.methods if m.access != 'internal']
    requests = {m.request.full_name for m in methods}
    yield HEAD
    for service in schema.services:
        mine = [m for m in methods if m.service == service]
        if mine:
            yield f'## {service}\n'
            if schema.services[service]:
                yield f'{schema.services[service]}\n'
            for method in mine:
                yield from method_section(method)
    yield '## Types\n'
    for message in used_messages(schema):
        if message.full_name not in requests:
            yield f'### {message.name}\n'
            if message.comment:
                yield f'{message.comment}\n'
            yield from field_table(message)
    yield '## Errors\n'
    yield ('REST answers a problem document with this `code`; the client socket answers the number. After a temporary one '
           'the same request may succeed later.\n')
    yield '| code | HTTP | socket | temporary | |\n|---|---|---|---|---|'
    for error in schema.errors:
        if error.number:
            yield f'| `{error.code}` | {error.http} | {error.client} | {"yes" if error.temporary else ""} | {error.title}. |'


def files(schema):
    return {'api-reference.md': '\n'.join(text(schema)) + '\n'}
