# SPDX-License-Identifier: Apache-2.0
"""Writes the C tables whose shape is src/proto/schema.h, and the lists of handlers."""
from .model import HANDLER_ROLES, PARTITIONS

HEAD = '/* SPDX-License-Identifier: Apache-2.0 */\n/* Made by tools/generate-schema from proto/: change it there. */\n'


def c_string(text):
    if text is None:
        return 'NULL'
    result = '"'
    for byte in text.encode():
        if byte in b'"\\':
            result += '\\' + chr(byte)
        elif 0x20 <= byte < 0x7f:
            result += chr(byte)
        else:
            result += f'\\{byte:03o}'  # octal ends after three digits; hexadecimal would not
    return result + '"'


def c_bool(value):
    return 'true' if value else 'false'


def info_name(message):
    return f'{message.names.lower}__info'


def header(schema):
    yield HEAD + '#pragma once\n\n#include "proto/schema.h"\n'
    for name in schema.headers:
        yield f'#include "{name}"'
    yield '\n/* Messages. */'
    for message in schema.messages.values():
        yield f'extern const MessageInfo {info_name(message)};'
    yield '\n/* Methods. */'
    for method in sorted(schema.methods, key=lambda m: m.name):
        yield f'extern const MethodInfo method_{method.c_name};'
    yield '\n/* Errors by their names in the definitions. */'
    for error in schema.errors:
        yield f'#define {error.name} SC__ERROR_CODE__{error.name}'


def field_info(field):
    key = c_string(f',"{field.name}":')
    parts = [f'.json_key = {key}', f'.json_key_size = {len(field.name) + 4}']
    rules = field.rules
    for flag in ('required', 'secret', 'raw_json', 'identifier', 'make_id', 'private'):
        if getattr(rules, flag):
            parts.append(f'.{flag} = true')
    if field.is_map:
        parts.append('.map = true')
    for name, value, suffix in (('min_size', rules.min_size, ''), ('max_size', rules.max_size, ''),
                                ('max', rules.max, 'ULL'), ('default_value', rules.default, 'ULL')):
        if value:
            parts.append(f'.{name} = {value}{suffix}')
    if field.message:
        parts.append(f'.message = &{info_name(field.message)}')
    if field.enum:
        parts.append(f'.enumeration = &{field.enum.names.lower}__info')
    return '        {' + ', '.join(parts) + '},'


def record_tables(message):
    record, lower = message.record, message.names.lower

    def indexes(fields):
        return ', '.join(str(message.index_of(f)) for f in fields)

    yield f'static const unsigned {lower}__key[] = {{{indexes(record.key)}}};'
    for i, index in enumerate(record.indexes):
        yield f'static const unsigned {lower}__index_{i}[] = {{{indexes(index.fields)}}};'
    if record.indexes:
        yield f'static const IndexInfo {lower}__indexes[] = {{'
        for i, index in enumerate(record.indexes):
            yield (f'        {{.name = {c_string(index.name)}, .unique = {c_bool(index.unique)}, '
                   f'.n_fields = {len(index.fields)}, .fields = {lower}__index_{i}}},')
        yield '};'
    version = message.index_of(record.version_field) if record.version_field else -1
    yield f'static const RecordInfo {lower}__record = {{'
    yield f'        .table = {c_string(record.table)},'
    yield f'        .key = {{.unique = true, .n_fields = {len(record.key)}, .fields = {lower}__key}},'
    if record.indexes:
        yield f'        .n_indexes = {len(record.indexes)},'
        yield f'        .indexes = {lower}__indexes,'
    yield f'        .version_field = {version},'
    yield f'        .partition = PARTITION_{PARTITIONS[record.partition].upper()},'
    yield '};'


def message_tables(message):
    lower = message.names.lower
    if message.fields:
        yield f'\nstatic const FieldInfo {lower}__fields[] = {{'
        yield from map(field_info, message.fields)
        yield '};'
    groups = [(False, group) for group in message.exclusive]
    groups += [(True, [f.name for f in message.members_of(name)]) for name in message.one_of]
    for i, (_, names) in enumerate(groups):
        yield f'static const unsigned {lower}__group_{i}[] = {{{", ".join(str(message.index_of(n)) for n in names)}}};'
    if groups:
        yield f'static const FieldGroup {lower}__groups[] = {{'
        for i, (required, names) in enumerate(groups):
            yield f'        {{.required = {c_bool(required)}, .n_fields = {len(names)}, .fields = {lower}__group_{i}}},'
        yield '};'
    if message.record:
        yield from record_tables(message)
    yield f'const MessageInfo {lower}__info = {{'
    yield f'        .descriptor = &{lower}__descriptor,'
    if message.fields:
        yield f'        .fields = {lower}__fields,'
    if groups:
        yield f'        .n_groups = {len(groups)},'
        yield f'        .groups = {lower}__groups,'
    if message.record:
        yield f'        .record = &{lower}__record,'
    yield '};'


def method_table(method):
    yield f'\nconst MethodInfo method_{method.c_name} = {{'
    yield f'        .name = {c_string(method.name)},'
    yield f'        .role = ROLE_{method.role.upper()},'
    yield f'        .access = ACCESS_{method.access.upper()},'
    if method.verb:
        yield f'        .http_verb = {c_string(method.verb)},'
        yield f'        .http_path = {c_string(method.path)},'
        yield f'        .http_status = {method.status},'
    yield f'        .idempotent = {c_bool(method.idempotent)},'
    if method.hot:
        yield '        .hot = true,'
    if method.large:
        yield '        .large = true,'
    if method.callers:
        yield '        .callers = ' + ' | '.join(f'1U << ROLE_{role.upper()}' for role in method.callers) + ','
    yield f'        .cost = {method.cost},'
    field = method.request.index_of(method.scope_field) if method.scope_field else -1
    yield f'        .scope_kind = SCOPE_{method.scope.upper()},'
    yield f'        .scope_field = {field},'
    yield f'        .request = &{info_name(method.request)},'
    yield f'        .response = &{info_name(method.response)},'
    yield '};'


def source(schema):
    yield HEAD + '#include "schema-tables.h"\n'
    for enum in schema.enums.values():
        values = ', '.join(c_string(name) for _, name in enum.values)
        yield f'static const char *const {enum.names.lower}__names[] = {{{values}}};'
        yield (f'static const EnumInfo {enum.names.lower}__info _unused_ = '
               f'{{&{enum.names.lower}__descriptor, {enum.names.lower}__names}};')
    for message in schema.messages.values():
        yield from message_tables(message)
    methods = sorted(schema.methods, key=lambda m: m.name)
    for method in methods:
        yield from method_table(method)
    yield '\nconst MethodInfo *const schema_methods[] = {'
    for method in methods:
        yield f'        &method_{method.c_name},'
    yield '};'
    yield f'const size_t schema_n_methods = {len(methods)};'
    yield '\nconst MessageInfo *const schema_messages[] = {'
    for message in schema.messages.values():
        yield f'        &{info_name(message)},'
    yield '};'
    yield f'const size_t schema_n_messages = {len(schema.messages)};'
    yield '\nconst ErrorInfo schema_errors[] = {'
    for error in schema.errors:
        yield (f'        [{error.name}] = {{.name = {c_string(error.code)}, .title = {c_string(error.title)}, '
               f'.http = {error.http}, .client = {error.client}, .temporary = {c_bool(error.temporary)}}},')
    yield '};'
    yield f'const size_t schema_n_errors = {max(e.number for e in schema.errors) + 1};'


def handlers(schema):
    yield HEAD + '#pragma once\n\n/* One for every method: its role defines them. */\n'
    yield '#include "schema-tables.h"\n#include "service/call.h"\n'
    for method in sorted(schema.methods, key=lambda m: m.name):
        if method.hot:
            yield f'void handle_{method.c_name}(Call *call, const {method.request.names.type} *request);'
        else:
            yield (f'int handle_{method.c_name}(Call *call, const {method.request.names.type} *request, '
                   f'{method.response.names.type} *response);')


def bindings(schema, role):
    """A table of handlers with the types of their messages taken off: by a function, as a cast of the function
    pointer would be undefined."""
    methods = sorted((m for m in schema.methods if m.role == role), key=lambda m: m.name)
    yield HEAD + '#include "service-handlers.h"\n#include "service/dispatcher.h"\n'
    for method in methods:
        request, response = method.request.names.type, method.response.names.type
        if method.hot:
            yield (f'static void call_{method.c_name}(Call *call, const ProtobufCMessage *request) {{\n'
                   f'        handle_{method.c_name}(call, (const {request} *)request);\n'
                   '}\n')
        else:
            yield (f'static int call_{method.c_name}(\n'
                   '        Call *call, const ProtobufCMessage *request, ProtobufCMessage *response) {\n'
                   f'        return handle_{method.c_name}(call, (const {request} *)request, ({response} *)response);\n'
                   '}\n')
    yield f'const MethodBinding {role}_methods[] = {{'
    for method in methods:
        member = 'hot_handler' if method.hot else 'handler'
        yield f'        {{.method = &method_{method.c_name}, .{member} = call_{method.c_name}}},'
    yield '        {},\n};'


def files(schema):
    """Names and contents."""
    result = {'schema-tables.h': header(schema), 'schema-tables.c': source(schema), 'service-handlers.h': handlers(schema)}
    for role in HANDLER_ROLES:
        result[f'methods-{role}.c'] = bindings(schema, role)
    return {name: '\n'.join(lines) + '\n' for name, lines in result.items()}
