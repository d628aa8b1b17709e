# SPDX-License-Identifier: Apache-2.0
"""The definitions of proto/ as plain objects, checked.

What protoc does not check and the rest of the server relies on is checked here, so that a mistake in a .proto
is a message with file and line and not a surprise at run time.
"""
import re

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Proto = descriptor_pb2.FieldDescriptorProto
INTEGERS = {
    Proto.TYPE_INT32: (32, True), Proto.TYPE_SINT32: (32, True), Proto.TYPE_SFIXED32: (32, True),
    Proto.TYPE_INT64: (64, True), Proto.TYPE_SINT64: (64, True), Proto.TYPE_SFIXED64: (64, True),
    Proto.TYPE_UINT32: (32, False), Proto.TYPE_FIXED32: (32, False),
    Proto.TYPE_UINT64: (64, False), Proto.TYPE_FIXED64: (64, False),
}
FLOATS = {Proto.TYPE_FLOAT, Proto.TYPE_DOUBLE}
ROLES = ['none', 'api', 'socket', 'group', 'arbiter', 'job', 'ctl']
HANDLER_ROLES = ['api', 'group']  # those with a generated table of handlers
ACCESSES = ['user', 'public', 'internal']
PARTITIONS = ['none', 'user', 'conversation']
VERBS = {'GET', 'POST', 'PUT', 'PATCH', 'DELETE'}


class Problems:
    def __init__(self):
        self.lines = []

    def add(self, where, text):
        self.lines.append(f'{where}: {text}')


# --- names as protoc-c makes them ---------------------------------------------------------------------------

def camel_to_lower(name):
    """ConversationKind → conversation_kind; an underscore before an upper-case letter that follows none."""
    result, was_upper = '', True
    for c in name:
        if c.isupper():
            result += ('' if was_upper else '_') + c.lower()
        else:
            result += c
        was_upper = c.isupper()
    return result


def to_camel(name):
    return ''.join(part[:1].upper() + part[1:] for part in name.split('_'))


class Names:
    """The C names of one message or enum: Sc__PresenceResponse__Client, sc__presence_response__client."""

    def __init__(self, c_package, path):
        pieces = c_package.split('.') + path
        self.type = '__'.join(to_camel(p) for p in pieces)
        self.lower = '__'.join(camel_to_lower(p) for p in pieces)
        self.upper = self.lower.upper()


# --- the objects ----------------------------------------------------------------------------------------------

class Field:
    def __init__(self, proto, rules, comment, where):
        self.proto, self.rules, self.comment, self.where = proto, rules, comment, where
        self.name, self.number, self.type = proto.name, proto.number, proto.type
        self.repeated = proto.label == Proto.LABEL_REPEATED
        self.oneof = proto.oneof_index if proto.HasField('oneof_index') else None
        self.message = self.enum = None  # resolved later

    @property
    def is_string(self):
        return self.type == Proto.TYPE_STRING

    @property
    def is_bytes(self):
        return self.type == Proto.TYPE_BYTES

    @property
    def is_integer(self):
        return self.type in INTEGERS

    @property
    def is_map(self):
        return self.message is not None and self.message.is_map_entry

    @property
    def has_size(self):
        return self.is_string or self.is_bytes or self.repeated


class Message:
    def __init__(self, full_name, names, comment, where):
        self.full_name, self.names, self.comment, self.where = full_name, names, comment, where
        self.fields, self.oneofs, self.record, self.is_map_entry = [], [], None, False
        self.exclusive, self.one_of = [], []  # names of fields that exclude each other; names of oneofs that need a value

    @property
    def name(self):
        return self.full_name.removeprefix('stonechat.v1.').removeprefix('stonechat.')

    @property
    def shown_fields(self):
        """Those that a client sees."""
        return [f for f in self.fields if not f.rules.private]

    def members_of(self, oneof):
        """The fields of the oneof of this name."""
        return [f for f in self.fields if f.oneof is not None and self.oneofs[f.oneof] == oneof]

    def index_of(self, name):
        """The index in protobuf-c's descriptor->fields, which is sorted by tag; None if there is none."""
        return next((i for i, f in enumerate(self.fields) if f.name == name), None)


class Enum:
    def __init__(self, full_name, names, comment, where, proto, value_comments):
        self.full_name, self.names, self.comment, self.where = full_name, names, comment, where
        self.proto, self.value_comments = proto, value_comments
        prefix = common_prefix([v.name for v in proto.value])
        # in the order of protobuf-c's descriptor->values
        self.values = sorted((v.number, v.name[len(prefix):].lower()) for v in proto.value)

    @property
    def name(self):
        return self.full_name.removeprefix('stonechat.v1.').removeprefix('stonechat.')


class Method:
    def __init__(self, rules, service, request, response, comment, where):
        self.name, self.service, self.comment, self.where = rules.name, service, comment, where
        self.request, self.response = request, response
        self.role, self.access = ROLES[rules.role], ACCESSES[rules.access]
        self.verb, _, self.path = rules.http.partition(' ')
        self.status = rules.http_status or 200
        self.idempotent, self.hot, self.large = rules.idempotent, rules.hot, rules.large
        self.callers, self.cost = [ROLES[role] for role in rules.callers], rules.cost or 1
        self.scope = rules.scope.WhichOneof('kind')  # None: not given
        value = getattr(rules.scope, self.scope) if self.scope else None
        self.scope_field = value if isinstance(value, str) else None
        self.scope_is_true = bool(value)
        self.c_name = rules.name.replace('.', '_')
        self.path_fields = re.findall(r'{(\w+)}', self.path)


class ErrorCode:
    def __init__(self, name, number, rules):
        self.name, self.number = name, number
        self.code = name.removeprefix('ERROR_').lower()
        self.http, self.client, self.temporary, self.title = rules.http, rules.client, rules.temporary, rules.title


class Schema:
    def __init__(self):
        self.messages, self.enums, self.methods, self.errors, self.services = {}, {}, [], [], {}
        self.headers = []


def common_prefix(names):
    """What all names begin with, up to and with an underscore: CONVERSATION_KIND_."""
    if len(names) < 2:
        return ''
    first, last = min(names), max(names)
    n = 0
    while n < min(len(first), len(last)) and first[n] == last[n]:
        n += 1
    return first[:first.rfind('_', 0, n) + 1]


# --- reading --------------------------------------------------------------------------------------------------

class Reader:
    """Fills a Schema from a FileDescriptorSet, options included."""

    def __init__(self, data, problems):
        # A pool of our own knows the options of options.proto as extensions, so that they can be read.
        pool = descriptor_pool.DescriptorPool()
        plain = descriptor_pb2.FileDescriptorSet.FromString(data)
        for file in plain.file:
            pool.AddSerializedFile(file.SerializeToString())
        factory = message_factory.MessageFactory(pool)
        factory.GetMessages([f.name for f in plain.file])
        set_class = factory.GetPrototype(pool.FindMessageTypeByName('google.protobuf.FileDescriptorSet'))
        self.set = set_class.FromString(data)
        find = pool.FindExtensionByName
        self.rules, self.record = find('stonechat.v1.rules'), find('stonechat.v1.record')
        self.fields_rules = find('stonechat.v1.fields')
        self.method, self.error = find('stonechat.v1.method'), find('stonechat.v1.error')
        self.pb_c_file = find('pb_c_file')
        self.problems, self.schema = problems, Schema()

    def read(self):
        files = [f for f in self.set.file if f.name.startswith('stonechat/') and not f.name.endswith('/options.proto')]
        for file in files:
            self.locations = {tuple(loc.path): loc for loc in file.source_code_info.location}
            self.file, self.c_package = file, file.options.Extensions[self.pb_c_file].c_package
            self.schema.headers.append(file.name.replace('.proto', '.pb-c.h'))
            for i, proto in enumerate(file.message_type):
                self.read_message(proto, file.package, [], (4, i))
            for i, proto in enumerate(file.enum_type):
                self.read_enum(proto, file.package, [], (5, i))
        for message in self.schema.messages.values():
            for field in message.fields:
                name = field.proto.type_name.lstrip('.')
                field.message = self.schema.messages.get(name) if field.type == Proto.TYPE_MESSAGE else None
                field.enum = self.schema.enums.get(name) if field.type == Proto.TYPE_ENUM else None
        for file in files:
            self.locations = {tuple(loc.path): loc for loc in file.source_code_info.location}
            self.file = file
            for i, service in enumerate(file.service):
                self.read_service(service, (6, i))
        return self.schema

    def where(self, path):
        location = self.locations.get(path)
        return f'{self.file.name}:{location.span[0] + 1}' if location else self.file.name

    def comment(self, path):
        location = self.locations.get(path)
        if not location:
            return ''
        text = ' '.join([location.leading_comments, location.trailing_comments])
        return ' '.join(text.split())

    def read_message(self, proto, package, outer, path):
        names = outer + [proto.name]
        message = Message('.'.join([package] + names), Names(self.c_package, names), self.comment(path), self.where(path))
        message.is_map_entry = proto.options.map_entry
        message.oneofs = [o.name for o in proto.oneof_decl]
        if proto.options.HasExtension(self.record):
            message.record = proto.options.Extensions[self.record]
        between = proto.options.Extensions[self.fields_rules]
        message.exclusive, message.one_of = [list(group.fields) for group in between.exclusive], list(between.one_of)
        for i, field in enumerate(proto.field):
            here = path + (2, i)
            message.fields.append(Field(field, field.options.Extensions[self.rules], self.comment(here), self.where(here)))
        message.fields.sort(key=lambda f: f.number)
        self.schema.messages[message.full_name] = message
        for i, nested in enumerate(proto.nested_type):
            self.read_message(nested, package, names, path + (3, i))
        for i, nested in enumerate(proto.enum_type):
            self.read_enum(nested, package, names, path + (4, i))

    def read_enum(self, proto, package, outer, path):
        names = outer + [proto.name]
        full_name = '.'.join([package] + names)
        comments = {v.number: self.comment(path + (2, i)) for i, v in enumerate(proto.value)}
        self.schema.enums[full_name] = Enum(full_name, Names(self.c_package, names), self.comment(path),
                                            self.where(path), proto, comments)
        if full_name == 'stonechat.v1.ErrorCode':
            self.schema.errors = [ErrorCode(v.name, v.number, v.options.Extensions[self.error]) for v in proto.value]

    def read_service(self, service, path):
        self.schema.services[service.name] = self.comment(path)
        for i, proto in enumerate(service.method):
            here = path + (2, i)
            if not proto.options.HasExtension(self.method):
                self.problems.add(self.where(here), f'{service.name}.{proto.name}: has no (method) option')
                continue
            request = self.schema.messages.get(proto.input_type.lstrip('.'))
            response = self.schema.messages.get(proto.output_type.lstrip('.'))
            self.schema.methods.append(Method(proto.options.Extensions[self.method], service.name, request, response,
                                              self.comment(here), self.where(here)))
