# SPDX-License-Identifier: Apache-2.0
"""What definitions must keep to, beyond what protoc asks for."""
import re

from .model import FLOATS, HANDLER_ROLES, VERBS, Proto


def check(schema, problems):
    for message in schema.messages.values():
        check_message(message, problems)
        check_recursion(message, [], problems)
    for enum in schema.enums.values():
        if enum.proto.options.allow_alias:
            problems.add(enum.where, f'{enum.name}: aliases are not supported')
        if len({name for _, name in enum.values}) != len(enum.values):
            problems.add(enum.where, f'{enum.name}: two values have the same name in JSON')
    check_errors(schema, problems)
    check_methods(schema, problems)


def check_message(message, problems):
    for field in message.fields:
        check_field(message, field, problems)
    check_between(message, problems)
    if message.record:
        check_record(message, problems)


def check_between(message, problems):
    """What the (fields) option says of several fields."""
    def complain(text):
        problems.add(message.where, f'{message.name}: {text}')

    for group in message.exclusive:
        fields = [next((f for f in message.fields if f.name == name), None) for name in group]
        if len(set(group)) < 2 or None in fields:
            complain(f'exclusive: {", ".join(group) or "nothing"}: needs at least two of its fields')
        elif any(f.repeated or f.rules.required or f.rules.private or f.oneof is not None for f in fields):
            complain(f'exclusive: {", ".join(group)}: must be single fields, neither required nor private, outside a oneof')
    for name in message.one_of:
        members = message.members_of(name)
        if not members:
            complain(f'one_of: there is no oneof {name}')
        elif len(members) < 2 or any(not (f.is_string or f.is_bytes) or f.rules.private for f in members):
            complain(f'one_of: {name} needs at least two members, which are strings or bytes')


def check_field(message, field, problems):
    def complain(text):
        problems.add(field.where, f'{message.name}.{field.name}: {text}')

    rules = field.rules
    if field.proto.proto3_optional:
        complain('optional is not supported by protoc-c 1.4, use a oneof with one member')
    if field.type == Proto.TYPE_MESSAGE and not field.message or field.type == Proto.TYPE_ENUM and not field.enum:
        complain(f'{field.proto.type_name} is not defined under proto/stonechat')
    if field.type == Proto.TYPE_GROUP or field.type in FLOATS:
        complain('groups and floating-point numbers are not supported by the JSON mapping')
    if field.is_map and not field.message.fields[0].is_string:
        complain('the key of a map must be a string')
    if (rules.min_size or rules.max_size) and not field.has_size:
        complain('min_size and max_size need a string, bytes or repeated field')
    if rules.max_size and rules.min_size > rules.max_size:
        complain('min_size is larger than max_size')
    if rules.max and not field.is_integer:
        complain('max needs an integer field')
    if rules.default and (not field.is_integer or field.repeated):
        complain('default needs a single integer field')
    if rules.max and rules.default > rules.max:
        complain('default is larger than max')
    if rules.raw_json and not field.is_bytes:
        complain('raw_json needs a bytes field')
    if rules.identifier and not field.is_string:
        complain('identifier needs a string field')
    if rules.make_id and (not field.is_string or field.repeated or field.oneof is not None):
        complain('make_id needs a single string field outside a oneof')
    if rules.required and field.oneof is not None:
        complain('required makes no sense for one member of a oneof')
    if rules.private and (rules.required or rules.make_id):
        complain('private: a client cannot fill it in, so it is neither required nor made at the edge')


def check_recursion(message, outer, problems):
    """protobuf-c unpacks by recursion without a limit, so the definitions must give one."""
    if message in outer:
        if message is outer[0]:
            problems.add(message.where, f'{message.name}: contains itself by way of '
                         + ' → '.join(m.name for m in outer))
        return
    for field in message.fields:
        if field.message:
            check_recursion(field.message, outer + [message], problems)


def check_record(message, problems):
    def complain(text):
        problems.add(message.where, f'{message.name}: {text}')

    record, names = message.record, set()
    if not re.fullmatch(r'[a-z][a-z0-9_]*', record.table):
        complain(f'"{record.table}" is no table name')
    if not record.key:
        complain('the record has no key')
    for what, fields in [('key', record.key)] + [(f'index {i.name}', i.fields) for i in record.indexes]:
        for name in fields:
            index = message.index_of(name)
            if index is None:
                complain(f'{what}: there is no field {name}')
            elif message.fields[index].repeated or message.fields[index].message:
                complain(f'{what}: {name} must be a single scalar')
        if not fields:
            complain(f'{what} has no fields')
    first = message.index_of(record.key[0]) if record.key else None
    if first is not None and not message.fields[first].is_string:
        complain(f'key: {record.key[0]} is the partition, so it must be a string')
    for index in record.indexes:
        if index.name in names or not re.fullmatch(r'[a-z][a-z0-9_]*', index.name):
            complain(f'"{index.name}" is no index name, or is used twice')
        names.add(index.name)
    if record.version_field:
        index = message.index_of(record.version_field)
        if index is None or message.fields[index].type != Proto.TYPE_UINT64 or message.fields[index].repeated:
            complain(f'version_field: {record.version_field} must be a uint64 field')


def check_errors(schema, problems):
    if not schema.errors or [e.number for e in schema.errors] != list(range(len(schema.errors))):
        problems.add('errors.proto', 'ErrorCode: numbers must be 0, 1, 2, … in order')
    for error in schema.errors:
        if not error.name.startswith('ERROR_'):
            problems.add('errors.proto', f'{error.name}: must begin with ERROR_')
        if error.number and (not error.title or not 400 <= error.http <= 599 or not error.client):
            problems.add('errors.proto', f'{error.name}: needs title, http (400-599) and client')


def check_methods(schema, problems):
    names, routes = {}, {}
    for method in schema.methods:
        def complain(text):
            problems.add(method.where, f'{method.name or "?"}: {text}')

        if not re.fullmatch(r'[a-z]+(\.[a-z][a-z_]*)+', method.name):
            complain('the name must look like "message.send"')
        if method.c_name in names:
            complain(f'the name is taken by {names[method.c_name]}')
        names[method.c_name] = method.where
        if method.role not in HANDLER_ROLES:
            complain('role must be one of ' + ', '.join(f'ROLE_{r.upper()}' for r in HANDLER_ROLES))
        if not method.comment:
            complain('needs a comment: it is its documentation')
        if not method.request or not method.response:
            complain('request and response must be defined under proto/stonechat')
            continue
        check_scope(method, complain)
        check_callers(method, complain)
        if method.large and method.hot:
            complain('large: a hot method cannot wait for its turn')
        if method.verb:
            check_route(method, routes, complain)
        if method.access != 'internal':
            check_limits(method.request, [], complain)
            check_private(method.request, complain)


def check_scope(method, complain):
    if not method.scope or not method.scope_is_true:
        complain('scope: needs one: which instance of its role runs it?')
        return
    if method.scope != 'any' and method.role != 'group':
        complain(f'scope: {method.scope} needs shards, and only ROLE_GROUP has them')
    if method.scope in ('user', 'direct') and method.access != 'user':
        complain(f'scope: {method.scope} needs a caller who is signed in, so ACCESS_USER')
    if method.scope_field:
        index = method.request.index_of(method.scope_field)
        field = method.request.fields[index] if index is not None else None
        if not field or not field.is_string or field.repeated:
            complain(f'scope: {method.request.name} has no string field {method.scope_field}')
        elif not field.rules.required:
            complain(f'scope: {method.scope_field} must be required')


def check_callers(method, complain):
    if method.access == 'internal':
        if not method.callers or 'none' in method.callers:
            complain('callers: an internal method names the roles that may call it')
        if len(set(method.callers)) != len(method.callers):
            complain('callers: a role stands there twice')
    elif method.callers:
        complain('callers: only of an internal method; api and socket call the others for their clients')


def check_private(request, complain):
    for field in request.fields:
        if field.rules.private:
            complain(f'{request.name}.{field.name} is private, so no client can send it')


def check_route(method, routes, complain):
    if method.access == 'internal':
        complain('an internal method has no REST route')
    if method.verb not in VERBS or not re.fullmatch(r'(/([a-z0-9_-]+|{\w+}))+', method.path):
        complain(f'http: "{method.verb} {method.path}" is not "VERB /path/{{field}}"')
    shape = method.verb + re.sub(r'{\w+}', '{}', method.path)
    if shape in routes:
        complain(f'http: the route is taken by {routes[shape]}')
    routes[shape] = method.name
    if not 200 <= method.status <= 299:
        complain(f'http_status: {method.status} is not a success')
    for name in method.path_fields:
        index = method.request.index_of(name)
        field = method.request.fields[index] if index is not None else None
        if not field or field.repeated or field.message or not field.rules.required:
            complain(f'http: {method.request.name} has no single, required, scalar field {name}')
    if method.verb in ('GET', 'DELETE'):
        for field in method.request.fields:
            if field.repeated or field.message:
                complain(f'http: {field.name} cannot be a query parameter')


def check_limits(message, outer, complain):
    """Whatever a client sends has a limit of its own."""
    if message in outer:
        return
    for field in message.fields:
        if field.has_size and not field.rules.max_size:
            complain(f'{message.name}.{field.name} comes from a client and has no max_size')
        if field.message:
            check_limits(field.message, outer + [message], complain)
