// SPDX-License-Identifier: Apache-2.0
// The API page and the server say the same: of requests made from the page's schemas, good and bad ones, the server takes those
// that the page allows and refuses those that it forbids.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { newUser, request } from './lib/api.mjs';
import { Host } from './lib/host.mjs';

const ROUNDS = 60; // requests of each method
let host, ann, page, seed = 20261121;

// Small numbers that repeat for a seed (mulberry32).
function random(n) {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) % n;
}
const pick = (list) => list[random(list.length)];

const resolve = (schema) => (schema.$ref ? schema.$ref.slice(2).split('/').reduce((at, step) => at[step], page) : schema);
const typesOf = (schema) => [schema.type ?? []].flat();
const typeOf = (value) => (value === null ? 'null' : Array.isArray(value) ? 'array' : Number.isInteger(value) ? 'integer' : typeof value);

// JSON Schema, as far as the page makes use of it; an unknown keyword is a mistake of this test.
const KEYWORDS = {
  type: (value, type) => [type].flat().includes(typeOf(value)) || ([type].flat().includes('number') && typeof value === 'number'),
  enum: (value, list) => list.includes(value),
  minLength: (value, n) => typeof value !== 'string' || [...value].length >= n,
  maxLength: (value, n) => typeof value !== 'string' || [...value].length <= n,
  pattern: (value, text) => typeof value !== 'string' || new RegExp(text, 'u').test(value),
  minimum: (value, n) => typeof value !== 'number' || value >= n,
  maximum: (value, n) => typeof value !== 'number' || value <= n,
  minItems: (value, n) => !Array.isArray(value) || value.length >= n,
  maxItems: (value, n) => !Array.isArray(value) || value.length <= n,
  items: (value, schema) => !Array.isArray(value) || value.every((element) => allows(schema, element)),
  required: (value, names) => typeOf(value) !== 'object' || names.every((name) => name in value),
  properties: (value, members) => typeOf(value) !== 'object' || Object.entries(members).every(([name, schema]) => !(name in value) || allows(schema, value[name])),
  oneOf: (value, schemas) => schemas.filter((schema) => allows(schema, value)).length === 1,
  anyOf: (value, schemas) => schemas.some((schema) => allows(schema, value)),
  allOf: (value, schemas) => schemas.every((schema) => allows(schema, value)),
  not: (value, schema) => !allows(schema, value),
};
const REMARKS = new Set(['description', 'format', 'default', 'contentEncoding']);
function allows(given, value) {
  return Object.entries(resolve(given)).every(([keyword, argument]) => {
    if (REMARKS.has(keyword)) return true;
    assert.ok(keyword in KEYWORDS, `keyword ${keyword}`);
    return KEYWORDS[keyword](value, argument);
  });
}

// Values for a schema: mostly good ones, at the limits; the rest anything else. What no schema can say is left out: sizes count bytes,
// so texts are ASCII; integers may be strings of digits.
function someValue(given) {
  const schema = resolve(given), types = typesOf(schema);
  if (random(8) === 0) return pick([null, true, 7, -1, 1.5, 'no digits', '', [], {}, [null], 'x'.repeat(40)]);
  if (schema.enum) return pick(schema.enum);
  if (types.includes('boolean')) return pick([true, false]);
  if (types.includes('integer')) return pick([0, 1, 2, 50, Math.min(schema.maximum ?? 9, Number.MAX_SAFE_INTEGER), schema.maximum < 2 ** 40 ? schema.maximum + 1 : 3, schema.minimum === 0 ? -1 : 4]);
  if (schema.contentEncoding) return Buffer.from('x'.repeat(random(9))).toString('base64') + pick(['', '', '', '', '!', '=', 'A']);
  if (types.includes('string')) {
    const size = pick([schema.minLength ?? 1, (schema.minLength ?? 1) - 1, Math.min(schema.maxLength ?? 9, 70_000), Math.min((schema.maxLength ?? 9) + 1, 70_000), 5, 12]);
    return pick(['a', 'Z', '7']).repeat(Math.max(size, 0)) + pick(['', '', '', '', ' ', '\u0000', '/', '"']);
  }
  if (types.includes('object')) return someObject(schema);
  return pick(['x', 1]);
}
function someObject(schema) {
  const result = {};
  for (const [name, member] of Object.entries(schema.properties ?? {})) {
    const wanted = schema.required?.includes(name) ? 12 : 2;
    if (random(wanted) > 0) result[name] = someValue(member);
  }
  return result;
}

before(async () => {
  host = await Host.boot({
    files: { '/etc/stonechat/stonechat.conf.d/50-test.conf': '[Api]\nLoginRate=0\nLoginAccountRate=0\nMaxBody=1M\n[Auth]\nHashMemory=64K\nHashOperations=1\n[Limits]\nUserRate=0\nAddressRate=0\n' },
  });
  ann = await newUser(host.api);
  page = (await request(host.api, 'GET', '/openapi.json')).body;
});
after(() => host?.stop());

const isRefused = ({ status, body }) => status === 400 && ['invalid_argument', 'invalid_json'].includes(body.code);
const asText = (value) => JSON.stringify(value)?.replace(/(.)\1{20,}/g, (run) => `${run[0]}×${run.length}`);

describe('the API page', () => {
  it('allows what the server takes, and forbids what it refuses', { timeout: 180_000 }, async (t) => {
    const count = { taken: 0, refused: 0 };
    for (const [path, item] of Object.entries(page.paths))
      for (const [verb, operation] of Object.entries(item)) {
        if (operation.operationId === 'auth.logout') continue; // takes nothing, and ends the session
        for (let round = 0; round < ROUNDS; round++) {
          let url = path, query = new URLSearchParams(), allowed = true, said = {};
          for (const { name, in: place, schema, required, style, description } of operation.parameters ?? []) {
            if (/^next_after of/.test(description)) continue; // only what an answer has said is right
            if (style === 'form') {
              // Its members are parameters by themselves.
              const object = Object.fromEntries(Object.keys(schema.properties).filter(() => random(2)).map((member) => [member, random(4)]));
              for (const [member, value] of Object.entries(object)) query.set(member, value);
              allowed &&= allows(schema, object);
              Object.assign(said, object);
              continue;
            }
            if (place === 'query' && !required && random(2)) continue;
            // In a URL everything is text.
            let value = place === 'path' ? pick(['a', 'some-id', 'x'.repeat(schema.maxLength ?? 9), 'x'.repeat((schema.maxLength ?? 9) + 1), 'a b', 'a/b']) : someValue(schema);
            if (typesOf(schema).includes('integer')) value = place === 'path' ? pick([1, 7, 0]) : typeof value === 'number' && Number.isInteger(value) ? value : 'no digits';
            else if (typesOf(schema).includes('boolean')) value = pick([true, false, 'perhaps']);
            else value = String(value);
            if (place === 'query' && value === '') continue; // as if it was not given
            allowed &&= allows(schema, value);
            said[name] = value;
            if (place === 'path') url = url.replace(`{${name}}`, encodeURIComponent(value));
            else query.set(name, value);
          }
          const missing = (operation.parameters ?? []).some(({ name, required, style }) => required && style !== 'form' && !(name in said));
          if (missing) allowed = false;
          let json;
          const body = operation.requestBody?.content['application/json'].schema;
          if (body) {
            json = someObject(resolve(body));
            allowed &&= allows(body, json);
          }
          const response = await ann.request(verb.toUpperCase(), `${url}${query.size ? `?${query}` : ''}`, { json });
          assert.ok(response.status < 500, `${operation.operationId} ${asText(said)} ${asText(json)}: ${response.text}`);
          assert.equal(isRefused(response), !allowed,
            `${operation.operationId} ${asText(said)} ${asText(json)}: the page ${allowed ? 'allows' : 'forbids'} it, the server says ${response.status} ${response.text.slice(0, 300)}`);
          count[allowed ? 'taken' : 'refused']++;
        }
      }
    t.diagnostic(`${count.taken} requests were allowed, ${count.refused} forbidden`);
    assert.ok(count.taken > 100 && count.refused > 100, JSON.stringify(count));
  });

  it('says of a message text or data, and of a page before or after', async () => {
    const path = '/v1/conversations/no-such-one/messages';
    const { schema } = page.paths['/v1/conversations/{conversation}/messages'].post.requestBody.content['application/json'];
    for (const [json, good] of [[{ text: 'a' }, true], [{ data: 'YQ==' }, true], [{ text: 'a', data: null }, true], [{ text: null, data: 'YQ==' }, true], [{ text: 'a', client_msg_id: null }, true],
      [{}, false], [{ text: '' }, false], [{ data: '' }, false], [{ text: null }, false], [{ text: 'a', data: 'YQ==' }, false], [{ text: '', data: 'YQ==' }, false]]) {
      assert.equal(allows(schema, json), good, JSON.stringify(json));
      assert.equal((await ann.request('POST', path, { json })).status, good ? 403 : 400, JSON.stringify(json));
    }
    for (const [query, good] of [['before=3', true], ['after=3', true], ['before=3&after=0', true], ['before=3&after=4', false]])
      assert.equal((await ann.request('GET', `${path}?${query}`)).status, good ? 403 : 400, query);
  });
});
