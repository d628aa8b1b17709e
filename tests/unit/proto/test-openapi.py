#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the structure of the generated OpenAPI description: test-openapi.py openapi.json"""
import json
import re
import sys
import unittest

document = {}


def walk(value, path='#'):
    """Every object in the document with its place."""
    if isinstance(value, dict):
        yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    for key, member in items:
        yield from walk(member, f'{path}/{key}')


def operations():
    for path, item in document['paths'].items():
        for verb, operation in item.items():
            yield path, verb, operation


class OpenApi(unittest.TestCase):
    def test_head(self):
        self.assertRegex(document['openapi'], r'^3\.1\.\d+$')
        self.assertTrue(document['info']['title'] and document['info']['version'])
        scheme = document['components']['securitySchemes']['bearer']
        self.assertEqual((scheme['type'], scheme['scheme']), ('http', 'bearer'))
        self.assertEqual(document['security'], [{'bearer': []}])

    def test_references_lead_somewhere(self):
        n = 0
        for place, value in walk(document):
            if '$ref' in value:
                target = document
                for step in value['$ref'].removeprefix('#/').split('/'):
                    self.assertIn(step, target, f'{place}: {value["$ref"]}')
                    target = target[step]
                n += 1
        self.assertGreater(n, 10)

    def test_no_schema_is_orphaned(self):
        used = {value['$ref'].rsplit('/', 1)[-1] for _, value in walk(document) if '$ref' in value}
        self.assertEqual(set(document['components']['schemas']) - used, set())

    def test_operations(self):
        ids = [operation['operationId'] for _, _, operation in operations()]
        self.assertEqual(len(ids), len(set(ids)))
        self.assertIn('message.send', ids)
        tags = {tag['name'] for tag in document['tags']}
        for path, verb, operation in operations():
            with self.subTest(operation=operation['operationId']):
                self.assertIn(verb, {'get', 'post', 'put', 'patch', 'delete'})
                self.assertTrue(operation['summary'] and operation['description'])
                self.assertLessEqual(set(operation['tags']), tags)
                self.assertTrue([s for s in operation['responses'] if s.startswith('2')])
                self.assertIn('default', operation['responses'])
                self.assertFalse(verb == 'get' and 'requestBody' in operation)

    def test_path_parameters(self):
        for path, _, operation in operations():
            declared = {p['name'] for p in operation.get('parameters', []) if p['in'] == 'path'}
            self.assertEqual(declared, set(re.findall(r'{(\w+)}', path)))
            for parameter in operation.get('parameters', []):
                self.assertTrue(parameter['required'] or parameter['in'] == 'query')
                self.assertIn('type', parameter['schema'])
                self.assertEqual(parameter['schema']['type'] == 'object', parameter.get('style') == 'form')
            body = operation.get('requestBody', {}).get('content', {}).get('application/json', {}).get('schema', {})
            self.assertEqual(declared & set(body.get('properties', {})), set())

    def test_required_fields_exist(self):
        for place, value in walk(document):
            if value.get('type') == 'object' and 'properties' in value:
                self.assertLessEqual(set(value.get('required', [])), set(value['properties']), place)

    def test_limits(self):
        register = document['components']['schemas']['RegisterRequest']
        password = register['properties']['password']
        self.assertEqual((password['minLength'], password['maxLength'], password['format']), (8, 1024, 'password'))
        self.assertIn('pattern', register['properties']['username'])
        self.assertEqual(set(register['required']), {'username', 'password'})
        history = document['paths']['/v1/conversations/{conversation}/messages']['get']
        limit = next(p for p in history['parameters'] if p['name'] == 'limit')
        self.assertEqual((limit['in'], limit['schema']['maximum'], limit['schema']['default']), ('query', 1000, 50))

    def test_what_holds_between_fields(self):
        messages = document['paths']['/v1/conversations/{conversation}/messages']
        body = messages['post']['requestBody']['content']['application/json']['schema']
        self.assertEqual([one['required'] for one in body['oneOf']], [['text'], ['data']])
        group = next(p for p in messages['get']['parameters'] if p.get('style') == 'form')
        self.assertEqual(set(group['schema']['properties']), {'before', 'after'})
        self.assertEqual(group['schema']['allOf'][0]['not']['required'], ['before', 'after'])

    def test_null_is_for_optional_fields_of_requests(self):
        login = document['components']['schemas']['LoginRequest']['properties']
        self.assertEqual((login['username']['type'], login['device']['type']), ('string', ['string', 'null']))
        self.assertEqual(document['components']['schemas']['TokenResponse']['properties']['session']['type'], 'string')

    def test_security(self):
        public = {o['operationId'] for _, _, o in operations() if o.get('security') == []}
        self.assertEqual(public, {'auth.register', 'auth.login', 'auth.refresh'})

    def test_problem(self):
        response = document['components']['responses']['Problem']
        self.assertEqual(list(response['content']), ['application/problem+json'])
        codes = document['components']['schemas']['Problem']['properties']['code']['enum']
        self.assertIn('not_a_member', codes)
        self.assertNotIn('none', codes)

    def test_internals_stay_inside(self):
        text = json.dumps(document)
        for word in ('gateway.attach', 'session.check', 'password_hash', 'refresh_hash'):
            self.assertNotIn(word, text)


if __name__ == '__main__':
    with open(sys.argv.pop(1), encoding='utf-8') as file:
        document = json.load(file)
    unittest.main()
