#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Mistakes in definitions are refused, by name and line: test-generate-schema.py GENERATOR PROTO-FOLDER PROTOBUF-INCLUDE"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

generator, protos, include = None, None, None

HEAD = '''syntax = "proto3";
package stonechat.v1;
import "protobuf-c/protobuf-c.proto";
import "stonechat/v1/options.proto";
import "stonechat/v1/errors.proto";
option (pb_c_file).c_package = "sc";
'''
REQUEST = 'message Req { string id = 1 [(rules) = {required: true max_size: 64}]; uint32 n = 2; } message Res {}\n'


def method(options, comment='// Does it.\n', name='Do'):
    return f'{comment} rpc {name}(Req) returns (Res) {{ option (method) = {{{options}}}; }}\n'


def service(*methods):
    return REQUEST + 'service S {\n' + ''.join(methods) + '}\n'


GOOD = 'name: "thing.do" role: ROLE_API scope: {any: true} http: "GET /v1/things/{id}"'
SHARDED = 'name: "thing.do" role: ROLE_GROUP '


class Generator(unittest.TestCase):
    def generate(self, definitions, made=None):
        """What the generator says about one more .proto file, or None if it likes it; `made` gets the files."""
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / 'stonechat/v1').mkdir(parents=True)
            (folder / 'stonechat/v1/extra.proto').write_text(HEAD + definitions)
            # --experimental_allow_proto3_optional: newer versions of protoc take it and do nothing
            subprocess.run(['protoc', f'-I{folder}', f'-I{protos}', f'-I{include}', '--include_imports',
                            '--include_source_info', '--experimental_allow_proto3_optional',
                            f'--descriptor_set_out={folder}/all.pb', 'stonechat/v1/extra.proto'], check=True)
            run = subprocess.run([generator, '--version', '1', folder / 'all.pb', folder],
                                 capture_output=True, text=True, check=False)
            if made is not None:
                made |= {path.name: path.read_text() for path in folder.iterdir() if path.suffix in ('.c', '.h', '.json', '.md')}
            return None if run.returncode == 0 else run.stderr

    def refuses(self, definitions, expected):
        said = self.generate(definitions)
        self.assertIsNotNone(said, 'was accepted')
        self.assertIn(expected, said)
        self.assertRegex(said, r'^stonechat/v1/extra\.proto:\d+: ')

    def test_accepts_what_is_right(self):
        self.assertIsNone(self.generate(service(method(GOOD))))

    def test_methods(self):
        for options, expected in [
                (GOOD.replace('thing.do', 'Thing'), 'the name must look like'),
                (GOOD.replace('ROLE_API', 'ROLE_SOCKET'), 'role must be one of'),
                (GOOD.replace('{id}', '{nothing}'), 'has no single, required, scalar field nothing'),
                (GOOD.replace('{id}', '{n}'), 'has no single, required, scalar field n'),
                (GOOD.replace('GET', 'FETCH'), 'is not "VERB /path/{field}"'),
                (GOOD + ' access: ACCESS_INTERNAL callers: ROLE_GROUP', 'an internal method has no REST route'),
                (GOOD + ' http_status: 404', '404 is not a success')]:
            with self.subTest(options=options):
                self.refuses(service(method(options)), expected)
        self.refuses(service(method(GOOD, comment='')), 'needs a comment')
        self.refuses(service('// Does it.\n rpc Do(Req) returns (Res);\n'), 'has no (method) option')

    def test_scopes(self):
        for options in ('scope: {any: true}', 'scope: {conversation: "id"}', 'scope: {direct: "id"}', 'scope: {user: true}',
                        'scope: {user_of: "id"} access: ACCESS_INTERNAL callers: ROLE_API'):
            with self.subTest(options=options):
                self.assertIsNone(self.generate(service(method(SHARDED + options))))
        for options, expected in [
                (SHARDED, 'scope: needs one'),
                (GOOD.replace('scope: {any: true}', ''), 'scope: needs one'),
                (SHARDED + 'scope: {}', 'scope: needs one'),
                (SHARDED + 'scope: {any: false}', 'scope: needs one'),
                (SHARDED + 'scope: {conversation: ""}', 'scope: needs one'),
                (SHARDED + 'scope: {conversation: "nothing"}', 'scope: Req has no string field nothing'),
                (SHARDED + 'scope: {direct: "n"}', 'scope: Req has no string field n'),
                (SHARDED + 'scope: {user_of: "other"}', 'scope: other must be required'),
                (SHARDED + 'scope: {user: true} access: ACCESS_PUBLIC', 'scope: user needs a caller who is signed in'),
                (SHARDED + 'scope: {direct: "id"} access: ACCESS_INTERNAL callers: ROLE_API', 'scope: direct needs a caller who is signed in'),
                (GOOD.replace('any: true', 'user: true'), 'scope: user needs shards')]:
            with self.subTest(options=options):
                self.refuses(service(method(options)).replace(
                    'uint32 n = 2;', 'uint32 n = 2; string other = 3 [(rules) = {max_size: 9}];'), expected)

    def test_callers(self):
        internal = 'name: "thing.do" role: ROLE_API scope: {any: true} access: ACCESS_INTERNAL'
        made = {}
        self.assertIsNone(self.generate(service(method(internal + ' callers: ROLE_SOCKET callers: ROLE_JOB large: true cost: 5')), made))
        self.assertIn('.callers = 1U << ROLE_SOCKET | 1U << ROLE_JOB,', made['schema-tables.c'])
        self.assertIn('.large = true,', made['schema-tables.c'])
        self.assertIn('.cost = 5,', made['schema-tables.c'])
        for options, expected in [
                (internal, 'callers: an internal method names'),
                (internal + ' callers: ROLE_UNSPECIFIED', 'callers: an internal method names'),
                (internal + ' callers: ROLE_API callers: ROLE_API', 'callers: a role stands there twice'),
                (GOOD + ' callers: ROLE_SOCKET', 'callers: only of an internal method')]:
            with self.subTest(options=options):
                self.refuses(service(method(options)), expected)

    def test_private(self):
        private = 'uint32 n = 2 [(rules) = {private: true}];'
        self.refuses(service(method(GOOD)).replace('uint32 n = 2;', private), 'Req.n is private, so no client can send it')
        internal = 'name: "thing.do" role: ROLE_API scope: {any: true} access: ACCESS_INTERNAL callers: ROLE_GROUP'
        self.assertIsNone(self.generate(service(method(internal)).replace('uint32 n = 2;', private)))
        self.refuses('message M { uint32 n = 2 [(rules) = {private: true required: true}]; }\n', 'private: a client cannot')

    def test_what_is_made(self):
        shown = service(method(GOOD), method(GOOD.replace('thing.do', 'thing.hot').replace('things', 'hot') + ' hot: true', name='Hot'))
        shown = shown.replace('message Res {}', 'message Res { uint32 seen = 1; uint32 unseen = 2 [(rules) = {private: true}]; }')
        made = {}
        self.assertIsNone(self.generate(shown, made))
        self.assertIn('int handle_thing_do(Call *call, const Sc__Req *request, Sc__Res *response);', made['service-handlers.h'])
        self.assertIn('void handle_thing_hot(Call *call, const Sc__Req *request);', made['service-handlers.h'])
        self.assertIn('{.method = &method_thing_do, .handler = call_thing_do},', made['methods-api.c'])
        self.assertIn('{.method = &method_thing_hot, .hot_handler = call_thing_hot},', made['methods-api.c'])
        for page in ('openapi.json', 'api-reference.md'):
            self.assertIn('seen', made[page])
            self.assertNotIn('unseen', made[page])
        self.assertIn('.private = true', made['schema-tables.c'])

    def test_duplicates(self):
        other = GOOD.replace('thing.do', 'thing.other')
        self.refuses(service(method(GOOD), method(GOOD.replace('things', 'others'), name='Other')), 'the name is taken')
        self.refuses(service(method(GOOD), method(other, name='Other')), 'the route is taken by thing.do')

    def test_limits_of_requests(self):
        for field in ('string s = 3;', 'bytes s = 3;', 'repeated uint32 s = 3;', 'Inner s = 3;'):
            with self.subTest(field=field):
                inner = 'message Inner { string s = 1; }\n'
                request = inner + service(method(GOOD.replace('GET', 'POST'))).replace('uint32 n = 2;', 'uint32 n = 2; ' + field)
                self.refuses(request, '.s comes from a client and has no max_size')

    def test_fields(self):
        for field, expected in [
                ('optional string s = 1;', 'optional is not supported'),
                ('double d = 1;', 'floating-point'),
                ('map<int32, string> m = 1;', 'the key of a map must be a string'),
                ('uint32 n = 1 [(rules) = {max_size: 3}];', 'need a string, bytes or repeated field'),
                ('string s = 1 [(rules) = {min_size: 4 max_size: 3}];', 'min_size is larger than max_size'),
                ('string s = 1 [(rules) = {max: 3}];', 'max needs an integer field'),
                ('string s = 1 [(rules) = {default: 3}];', 'default needs a single integer field'),
                ('uint32 n = 1 [(rules) = {max: 3 default: 4}];', 'default is larger than max'),
                ('string s = 1 [(rules) = {raw_json: true}];', 'raw_json needs a bytes field'),
                ('bytes b = 1 [(rules) = {identifier: true}];', 'identifier needs a string field'),
                ('oneof o { string s = 1 [(rules) = {required: true}]; }', 'required makes no sense')]:
            with self.subTest(field=field):
                self.refuses(f'message M {{ {field} }}\n', expected)

    def test_between_fields(self):
        for options, fields, expected in [
                ('exclusive: {fields: "a"}', 'uint32 a = 1;', 'needs at least two of its fields'),
                ('exclusive: {fields: "a" fields: "a"}', 'uint32 a = 1;', 'needs at least two of its fields'),
                ('exclusive: {fields: "a" fields: "x"}', 'uint32 a = 1;', 'needs at least two of its fields'),
                ('exclusive: {fields: "a" fields: "b"}', 'uint32 a = 1; repeated uint32 b = 2;', 'must be single fields'),
                ('one_of: "o"', 'string s = 1;', 'there is no oneof o'),
                ('one_of: "o"', 'oneof o { string s = 1; }', 'needs at least two members'),
                ('one_of: "o"', 'oneof o { string s = 1; uint32 n = 2; }', 'which are strings or bytes')]:
            with self.subTest(options=options):
                self.refuses(f'message M {{ option (fields) = {{{options}}}; {fields} }}\n', expected)
        made = {}
        request = ('message Req { option (fields) = {exclusive: {fields: "a" fields: "b"} one_of: "o"}; uint32 a = 1; uint32 b = 2;'
                   ' oneof o { string s = 3 [(rules) = {max_size: 9}]; bytes t = 4 [(rules) = {max_size: 9}]; } } message Res {}\n')
        self.assertIsNone(self.generate(request + 'service S {\n' + method('name: "thing.do" role: ROLE_API scope: {any: true} http: "POST /v1/things"') + '}\n', made))
        schema = json.loads(made['openapi.json'])['components']['schemas']['Req']
        self.assertEqual([one['required'] for one in schema['oneOf']], [['s'], ['t']])
        self.assertEqual(schema['allOf'][0]['not']['required'], ['a', 'b'])
        self.assertEqual(schema['properties']['s']['type'], ['string', 'null'])

    def test_recursion(self):
        self.refuses('message A { B b = 1; } message B { repeated A a = 1; }\n', 'A: contains itself by way of A → B')

    def test_records(self):
        for options, expected in [
                ('table: "Rows" key: "id"', 'is no table name'),
                ('table: "rows"', 'the record has no key'),
                ('table: "rows" key: "nothing"', 'key: there is no field nothing'),
                ('table: "rows" key: "list"', 'key: list must be a single scalar'),
                ('table: "rows" key: "n"', 'key: n is the partition, so it must be a string'),
                ('table: "rows" key: "id" indexes: {name: "i" fields: "nothing"}', 'index i: there is no field nothing'),
                ('table: "rows" key: "id" indexes: {name: "i"}', 'index i has no fields'),
                ('table: "rows" key: "id" version_field: "id"', 'version_field: id must be a uint64 field')]:
            with self.subTest(options=options):
                self.refuses(f'message M {{ option (record) = {{{options}}}; string id = 1; repeated string list = 2; uint32 n = 3; }}\n',
                             expected)

    def test_enums(self):
        self.refuses('enum E { option allow_alias = true; E_A = 0; E_B = 0; }\n', 'aliases are not supported')


if __name__ == '__main__':
    generator, protos, include = sys.argv[1:4]
    del sys.argv[1:4]
    unittest.main()
