// SPDX-License-Identifier: Apache-2.0
// What RFC 9110, 9112 and 3986 say of an HTTP/1.1 server, and what ours promises where they leave a choice. A case is
// [name, bytes, expected, check]: the bytes are sent, and behind them a request that is answered with 304 and closes
// the connection. `expected` is the status of each response until the connection ends, with the code of the problem
// document, so a request that was read in another way than it was meant shows as one response too many or too few.
// check(responses) may say more: it answers what is wrong.

const HOST = 'Host: stonechat.example\r\n';
const get = (target, headers = '', version = 'HTTP/1.1') => `GET ${target} ${version}\r\n${HOST}${headers}\r\n`;
const post = (headers, body = '') => `POST /v1/auth/login HTTP/1.1\r\n${HOST}Content-Type: application/json\r\n${headers}\r\n${body}`;
const chunked = (body, headers = '') => post(`Transfer-Encoding: chunked\r\n${headers}`, body);

// The smallest request for the end of a case: no other one is answered with 304.
export const LAST = get('/openapi.json', 'If-None-Match: *\r\nConnection: close\r\n');

const BAD = '400 malformed_request'; // and the connection ends
const OK = '200 304';
// A login without a user name is refused for that, once its body was read: {} arrived as it was sent.
const READ = '400 invalid_argument 304';
const EMPTY = '400 invalid_argument 304';

const header = (name, pattern) => ([{ headers }]) => (pattern.test(headers[name] ?? '') ? '' : `${name} is ${headers[name]}`);
const without = (name) => ([{ headers }]) => (name in headers ? `${name} is ${headers[name]}` : '');
const all = (...checks) => (responses) => checks.map((check) => check(responses)).filter(Boolean).join('; ');
const padded = (size, begin, end) => begin + 'x'.repeat(size - begin.length - end.length) + end;

export const LIMITS = { target: 4096, headers: 16384, lines: 100, body: 262144 };

export const sections = {
  'RFC 9112 2.2 parsing': [
    ['one request', get('/'), OK],
    ['empty lines before it are skipped', `\r\n\r\n${get('/')}`, OK],
    ['LF alone ends a line', `GET / HTTP/1.1\n${HOST}\r\n`, BAD],
    ['LF alone ends a header', 'GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n', BAD],
    ['LF alone ends the head', 'GET / HTTP/1.1\r\nHost: a\r\n\n', BAD],
    ['CR within a header', get('/', 'X: a\rb\r\n'), BAD],
    ['CR CR LF', 'GET / HTTP/1.1\r\nHost: a\r\r\n\r\n', BAD],
    ['space before the first header', `GET / HTTP/1.1\r\n ${HOST}\r\n`, BAD],
    ['NUL in the request line', 'GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n', BAD],
    ['TLS on this port', '\x16\x03\x01\x00\x05hello\r\n\r\n', BAD],
  ],
  'RFC 9112 2.3 version': [
    ['HTTP/1.0, without Host', 'GET / HTTP/1.0\r\n\r\n', '200', header('connection', /^close$/)],
    ['HTTP/1.0 with keep-alive: answered and closed', 'GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n', '200', header('connection', /^close$/)],
    ['a higher minor version is served', get('/', '', 'HTTP/1.2'), OK],
    ['HTTP/2.0', get('/', '', 'HTTP/2.0'), '505 http_version_not_supported'],
    ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', '505 http_version_not_supported'],
    ['HTTP/3.0', get('/', '', 'HTTP/3.0'), '505 http_version_not_supported'],
    ['no version (HTTP/0.9)', 'GET /\r\n\r\n', BAD],
    ['lower case', get('/', '', 'http/1.1'), BAD],
    ['two digits', get('/', '', 'HTTP/1.10'), BAD],
    ['no minor version', get('/', '', 'HTTP/1'), BAD],
  ],
  'RFC 9112 3 request line': [
    ['two spaces', get(' /'), BAD],
    ['a tab', `GET\t/ HTTP/1.1\r\n${HOST}\r\n`, BAD],
    ['a space at the end', get('/', '', 'HTTP/1.1 '), BAD],
    ['a space in front', ` ${get('/')}`, BAD],
    ['no target', `GET HTTP/1.1\r\n${HOST}\r\n`, BAD],
    ['no method', ` / HTTP/1.1\r\n${HOST}\r\n`, BAD],
    ['no token as method', `G@T / HTTP/1.1\r\n${HOST}\r\n`, BAD],
    ['the longest target', get(padded(LIMITS.target, '/?', '')), OK],
    ['one byte more', get(padded(LIMITS.target + 1, '/?', '')), '414 uri_too_long'],
    ['a target without end', padded(9000, 'GET /', ''), '414 uri_too_long'],
  ],
  'RFC 9112 3.2 Host': [
    ['missing', 'GET / HTTP/1.1\r\n\r\n', BAD],
    ['twice', get('/', HOST), BAD],
    ['empty', 'GET / HTTP/1.1\r\nHost:\r\n\r\n', BAD],
    ['name and port', 'GET / HTTP/1.1\r\nHost: a.example:8080\r\n\r\n', OK],
    ['IPv4', 'GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n', OK],
    ['IPv6', 'GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n', OK],
    ['an escape', 'GET / HTTP/1.1\r\nHost: a%41\r\n\r\n', OK],
    ['white space around', 'GET / HTTP/1.1\r\nHost: \t a \t \r\n\r\n', OK],
    ...['a b', 'a/b', 'a@b', 'a?b', 'a#b', 'a\\b', 'a,b', 'a:b', 'a:99999', '[::1', '[x]', '::1', 'a%4', ':80', '\xe4'].map((host) => [`"${host}"`, `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`, BAD]),
  ],
  'RFC 9112 3.2.1 origin-form': [
    ['with query', get('/?a=b&c'), OK],
    ['with a fragment', get('/#a'), BAD],
    ['an unescaped byte', get('/\xe4'), BAD],
    ['a backslash', get('/a\\..\\b'), BAD],
    ['not from the root', get('healthz'), BAD],
    ['an unknown path', get('/nowhere'), '404 method_not_found 304'],
  ],
  'RFC 9112 3.2.2 absolute-form': [
    ['http', get('http://other.example/'), OK],
    ['https, in capitals, with port', get('HTTPS://OTHER.example:443/'), OK],
    ['without path', get('http://other.example'), OK],
    ['without path, with query', get('http://other.example?a=b'), OK],
    ['a path that is not there', get('http://other.example/nowhere'), '404 method_not_found 304'],
    ['without Host', 'GET http://other.example/ HTTP/1.1\r\n\r\n', BAD],
    ['with a Host that is not valid', 'GET http://other.example/ HTTP/1.1\r\nHost: a b\r\n\r\n', BAD],
    ['an empty host', get('http:///'), BAD],
    ['with a user', get('http://a@b/'), BAD],
    ['another scheme', get('ftp://other.example/'), BAD],
  ],
  'RFC 9112 3.2.3 authority-form': [
    ['CONNECT', `CONNECT other.example:443 HTTP/1.1\r\n${HOST}\r\n`, '501 not_implemented'],
    ['GET', get('other.example:443'), BAD],
  ],
  'RFC 9112 3.2.4 asterisk-form': [
    ['OPTIONS', `OPTIONS * HTTP/1.1\r\n${HOST}\r\n`, '204 304', header('allow', /^GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS$/)],
    ['OPTIONS of an absolute target without path', `OPTIONS http://other.example HTTP/1.1\r\n${HOST}\r\n`, '204 304', header('allow', /PATCH/)],
    ['GET', get('*'), BAD],
  ],
  'RFC 3986 percent-encoding': [
    ['an escaped letter is the letter', get('/%68ealthz'), OK],
    ['an escaped slash is no slash', get('/v1%2fusers%2fme'), '404 method_not_found 304'],
    ['an escaped slash in a segment', get('/v1/users%2Fme'), '404 method_not_found 304'],
    ['a twice escaped slash', get('/v1%252fusers%252fme'), '404 method_not_found 304'],
    ['an escaped slash in an id', get('/v1/users/a%2fb'), '401 unauthenticated 304'],
    ['empty segments count', get('//v1/users/me'), '404 method_not_found 304'],
    ['a slash at the end counts', get('/healthz/'), '404 method_not_found 304'],
    ['"."', get('/./healthz'), BAD],
    ['".."', get('/a/../healthz'), BAD],
    ['escaped dots', get('/a/%2e%2E/healthz'), BAD],
    ['dots between escaped slashes', get('/a%2f..%2fhealthz'), BAD],
    ['dots in a name', get('/...'), '404 method_not_found 304'],
    ['%zz', get('/%zz'), BAD],
    ['a cut escape', get('/%4'), BAD],
    ['NUL', get('/%00'), BAD],
    ['a line break', get('/%0d%0aX:%20y'), BAD],
    ['UTF-8', get('/%e4%bd%a0'), '404 method_not_found 304'],
    ['not UTF-8', get('/%e4'), BAD],
    ['overlong UTF-8', get('/%c0%af'), BAD],
    ['a bad escape in a query that nobody reads', get('/?%zz'), OK],
  ],
  'RFC 9110 9 methods': [
    ['HEAD', `HEAD /openapi.json HTTP/1.1\r\n${HOST}\r\n`, OK, header('content-length', /^[1-9][0-9]+$/), [0]],
    ['HEAD of what is not there', `HEAD /nowhere HTTP/1.1\r\n${HOST}\r\n`, '404 304', header('content-length', /^[1-9]/), [0]],
    ['OPTIONS', `OPTIONS /v1/users/me HTTP/1.1\r\n${HOST}\r\n`, '204 304', all(header('allow', /^GET, HEAD, OPTIONS$/), without('content-length'), without('transfer-encoding'))],
    ['OPTIONS of a page', `OPTIONS /healthz HTTP/1.1\r\n${HOST}\r\n`, '204 304', header('allow', /^GET, HEAD, OPTIONS$/)],
    ['Allow is of this resource alone', get('/v1/conversations/direct'), '405 method_not_allowed 304', header('allow', /^POST, OPTIONS$/)],
    ['a method that the resource has not', `DELETE /v1/users/me HTTP/1.1\r\n${HOST}\r\n`, '405 method_not_allowed 304', header('allow', /^GET, HEAD, OPTIONS$/)],
    ['a method of a page', `POST /healthz HTTP/1.1\r\n${HOST}Content-Length: 2\r\n\r\n{}`, '405 method_not_allowed 304', header('allow', /^GET, HEAD, OPTIONS$/)],
    ['TRACE', `TRACE / HTTP/1.1\r\n${HOST}\r\n`, '501 not_implemented'],
    ['an unknown one', `BREW / HTTP/1.1\r\n${HOST}\r\n`, '501 not_implemented'],
    ['methods know cases', `get / HTTP/1.1\r\n${HOST}\r\n`, '501 not_implemented'],
    ['GET with a body', `GET / HTTP/1.1\r\n${HOST}Content-Length: 5\r\n\r\nhello`, OK],
  ],
  'RFC 9112 5 headers': [
    ['no space behind the colon', 'GET / HTTP/1.1\r\nHost:a\r\n\r\n', OK],
    ['names know no cases', 'GET / HTTP/1.1\r\nhOsT: a\r\ncOnNeCtIoN: ClOsE\r\n\r\n', '200', header('connection', /^close$/)],
    ['an empty value', get('/', 'X:\r\n'), OK],
    ['space before the colon', get('/', 'X : y\r\n'), BAD],
    ['space before the colon of a length', post('Content-Length : 2\r\n', '{}'), BAD],
    ['folded', get('/', 'X: a\r\n b\r\n'), BAD],
    ['folded by a tab', get('/', 'X: a\r\n\tb\r\n'), BAD],
    ['no colon', get('/', 'X\r\n'), BAD],
    ['no name', get('/', ': x\r\n'), BAD],
    ['a name with a slash', get('/', 'X/Y: z\r\n'), BAD],
    ['obs-text in a value', get('/', 'X: \x80\xff\r\n'), OK],
    ['obs-text in a name', get('/', 'X\xe4: y\r\n'), BAD],
    ['a tab in a value', get('/', 'X: a\tb\r\n'), OK],
    ['a control character', get('/', 'X: a\x01b\r\n'), BAD],
    ['NUL in a value', get('/', 'X: a\0b\r\n'), BAD],
    ['DEL in a value', get('/', 'X: a\x7fb\r\n'), BAD],
    ['an unknown one twice', get('/', 'X: a\r\nX: b\r\n'), OK],
    ['Authorization twice', get('/', 'Authorization: Bearer a\r\nAuthorization: Bearer b\r\n'), BAD],
    ['as many bytes as allowed', padded(LIMITS.headers, get('/', 'X: ').slice(0, -2), '\r\n\r\n'), OK],
    ['one byte more', padded(LIMITS.headers + 1, get('/', 'X: ').slice(0, -2), '\r\n\r\n'), '431 headers_too_large'],
    ['as many lines as allowed', get('/', 'X: y\r\n'.repeat(LIMITS.lines - 1)), OK],
    ['one line more', get('/', 'X: y\r\n'.repeat(LIMITS.lines)), '431 headers_too_large'],
  ],
  'RFC 9112 6.2 Content-Length': [
    ['a body', post('Content-Length: 2\r\n', '{}'), READ],
    ['0', post('Content-Length: 0\r\n'), EMPTY],
    ['none, and no coding: no body', post(''), EMPTY],
    ['leading zeros', post('Content-Length: 002\r\n', '{}'), READ],
    ['two that differ', post('Content-Length: 2\r\nContent-Length: 3\r\n', '{}'), BAD],
    ['two that are equal', post('Content-Length: 2\r\nContent-Length: 2\r\n', '{}'), BAD],
    ...['2, 2', '+2', '-2', '0x2', '2 2', '', '2;', '18446744073709551618', '2.0'].map((value) => [`"${value}"`, post(`Content-Length: ${value}\r\n`, '{}'), BAD]),
    ['as large as allowed', post(`Content-Length: ${LIMITS.body}\r\n`, padded(LIMITS.body, '{"x":"', '"}')), READ],
    ['one byte more', post(`Content-Length: ${LIMITS.body + 1}\r\n`), '413 body_too_large'],
    ['far more', post('Content-Length: 999999999999999999\r\n'), '413 body_too_large'],
  ],
  'RFC 9112 6.1 Transfer-Encoding': [
    ['chunked', chunked('2\r\n{}\r\n0\r\n\r\n'), READ],
    ['in capitals', post('TRANSFER-ENCODING: CHUNKED\r\n', '2\r\n{}\r\n0\r\n\r\n'), READ],
    ['with a length', chunked('2\r\n{}\r\n0\r\n\r\n', 'Content-Length: 2\r\n'), BAD],
    ['behind a length', post('Content-Length: 2\r\nTransfer-Encoding: chunked\r\n', '2\r\n{}\r\n0\r\n\r\n'), BAD],
    ['from HTTP/1.0', 'POST /v1/auth/login HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', BAD],
    ['twice', chunked('0\r\n\r\n', 'Transfer-Encoding: chunked\r\n'), BAD],
    ['chunked, chunked', post('Transfer-Encoding: chunked, chunked\r\n', '0\r\n\r\n'), BAD],
    ['chunked is not the last', post('Transfer-Encoding: chunked, gzip\r\n', '0\r\n\r\n'), BAD],
    ['an unknown one before it', post('Transfer-Encoding: gzip, chunked\r\n', '0\r\n\r\n'), '501 not_implemented'],
    ...['gzip', 'identity', 'xchunked', 'chunked;q=1', '"chunked"', '', 'chunked,', '\x0bchunked'].map((value) => [JSON.stringify(value), post(`Transfer-Encoding: ${value}\r\n`, '0\r\n\r\n'), BAD]),
    ['space before the colon', post('Transfer-Encoding : chunked\r\n', '0\r\n\r\n'), BAD],
    ['folded', post('Transfer-Encoding:\r\n chunked\r\n', '0\r\n\r\n'), BAD],
  ],
  'RFC 9112 7.1 chunks': [
    ['none', chunked('0\r\n\r\n'), EMPTY],
    ['several', chunked('1\r\n{\r\n1\r\n}\r\n0\r\n\r\n'), READ],
    ['leading zeros', chunked('0002\r\n{}\r\n00\r\n\r\n'), READ],
    ['capitals', chunked(`A\r\n{"x":"yz"}\r\n0\r\n\r\n`), READ],
    ['a line break within a quoted string', chunked('2;a="b\r\nc"\r\n{}\r\n0\r\n\r\n'), BAD],
    ['extensions in their form', chunked('2;a;b=c;d="e\\";f"\r\n{}\r\n0 ; g = h\r\n\r\n'), READ],
    ['trailers', chunked('2\r\n{}\r\n0\r\nX-Sum: 1\r\nContent-Length: 50\r\n\r\n'), READ],
    ['a trailer is no header', chunked('2\r\n{}\r\n0\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n'), READ],
    ['no size', chunked('\r\n{}\r\n0\r\n\r\n'), BAD],
    ['a sign', chunked('+2\r\n{}\r\n0\r\n\r\n'), BAD],
    ['0x', chunked('0x2\r\n{}\r\n0\r\n\r\n'), BAD],
    ['space before the size', chunked(' 2\r\n{}\r\n0\r\n\r\n'), BAD],
    ['space behind the size', chunked('2 \r\n{}\r\n0\r\n\r\n'), BAD],
    ['LF behind the size', chunked('2\n{}\r\n0\r\n\r\n'), BAD],
    ['LF behind an extension', chunked('2;a\n{}\r\n0\r\n\r\n'), BAD],
    ['CR within an extension', chunked('2;a\rb\r\n{}\r\n0\r\n\r\n'), BAD],
    ['LF behind the data', chunked('2\r\n{}\n0\r\n\r\n'), BAD],
    ['more data than announced', chunked('1\r\n{}\r\n0\r\n\r\n'), BAD],
    ['a size beyond 64 bits', chunked('10000000000000002\r\n{}\r\n0\r\n\r\n'), BAD],
    ['LF behind the last chunk', chunked('2\r\n{}\r\n0\r\n\n'), BAD],
    ['a malformed trailer', chunked('2\r\n{}\r\n0\r\nX : y\r\n\r\n'), BAD],
    ['extensions without end', chunked(`2;${'a'.repeat(5000)}`), BAD],
    ['trailers without end', chunked(`0\r\n${'X: y\r\n'.repeat(1000)}`), BAD],
    ['as large as allowed', chunked(`${LIMITS.body.toString(16)}\r\n${padded(LIMITS.body, '{"x":"', '"}')}\r\n0\r\n\r\n`), READ],
    ['one byte more', chunked(`${(LIMITS.body + 1).toString(16)}\r\n`), '413 body_too_large'],
    ['one byte more, in two', chunked(`1\r\n{\r\n${LIMITS.body.toString(16)}\r\n`), '413 body_too_large'],
  ],
  'RFC 9112 9 connections': [
    ['goes on', get('/') + get('/'), '200 200 304', without('connection')],
    ['closes when asked', get('/', 'Connection: close\r\n'), '200', header('connection', /^close$/)],
    ['closes when asked among others', get('/', 'Connection: x, Close , y\r\n'), '200', header('connection', /^close$/)],
    ['pipelined, in order', get('/') + get('/nowhere') + post('Content-Length: 2\r\n', '{}') + get('/'), '200 404 method_not_found 400 invalid_argument 200 304'],
    ['many pipelined', get('/').repeat(100), `${'200 '.repeat(100)}304`],
    ['a later request is as strict', get('/') + get('/', 'X : y\r\n'), `200 ${BAD}`],
    ['behind a refusal nothing is read', get('/', 'X : y\r\n') + get('/'), BAD, header('connection', /^close$/)],
    ['an upgrade that nobody offers is no error', get('/', 'Connection: Upgrade\r\nUpgrade: h2c\r\n'), OK],
    ['nor is that to a WebSocket here', get('/', 'Connection: Upgrade\r\nUpgrade: websocket\r\n'), OK],
  ],
  'RFC 9110 responses': [
    ['Date', get('/'), OK, header('date', /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT$/)],
    ['304 has no body, and the ETag', get('/openapi.json', 'If-None-Match: *\r\n'), '304 304', all(header('etag', /^"[0-9a-f]+"$/), without('content-type'))],
    ['401 says how to sign in', get('/v1/users/me'), '401 unauthenticated 304', header('www-authenticate', /^Bearer/)],
    ['415', post('Content-Length: 1\r\n', 'x').replace('application/json', 'text/plain'), '415 unsupported_media_type 304'],
    ['a refusal is a problem document', get('/', 'X\r\n'), BAD, header('content-type', /^application\/problem\+json$/)],
  ],
  'RFC 9110 10.1.1 Expect': [
    ['another expectation', get('/', 'Expect: tea\r\n'), '417 expectation_failed'],
    ['another expectation, HTTP/1.0', 'GET / HTTP/1.0\r\nExpect: tea\r\n\r\n', '200'],
    ['the body came at once', post('Expect: 100-continue\r\nContent-Length: 2\r\n', '{}'), READ],
    ['no body', get('/', 'Expect: 100-continue\r\n'), OK],
    ['too large: refused without 100', post(`Expect: 100-continue\r\nContent-Length: ${LIMITS.body + 1}\r\n`), '413 body_too_large'],
  ],
};

// Cases that take turns with the server: [name, async (client) => what happened, expected].
export const conversations = {
  'RFC 9110 10.1.1 Expect': [
    ['100, then the answer', async (client) => {
      client.send(post('Expect: 100-Continue\r\nContent-Length: 2\r\n'));
      const first = await client.response();
      client.send(`{}${LAST}`);
      return [first, ...await client.responses()];
    }, '100 400 invalid_argument 304'],
    ['100 for chunks', async (client) => {
      client.send(chunked('', 'Expect: 100-continue\r\n'));
      const first = await client.response();
      client.send(`2\r\n{}\r\n0\r\n\r\n${LAST}`);
      return [first, ...await client.responses()];
    }, '100 400 invalid_argument 304'],
    ['no 100 for HTTP/1.0', async (client) => {
      client.send('POST /v1/auth/login HTTP/1.0\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n');
      client.send('{}');
      return client.responses();
    }, '400 invalid_argument'],
  ],
  'RFC 9110 15.5.9 408': [
    ['half a head', (client) => client.send('GET / HTTP/1.1\r\nHost:').responses(), '408 request_timeout'],
    ['half a body', (client) => client.send(post('Content-Length: 2\r\n', '{')).responses(), '408 request_timeout'],
    ['half a chunk', (client) => client.send(chunked('2\r\n{')).responses(), '408 request_timeout'],
    ['no trailer end', (client) => client.send(chunked('2\r\n{}\r\n0\r\n')).responses(), '408 request_timeout'],
    ['nothing: closed without a word', (client) => client.responses(), ''],
    ['nothing behind an answer: closed without a word', (client) => client.send(get('/')).responses(), '200'],
    ['a byte now and then is no request', async (client) => {
      const timer = setInterval(() => client.send('X: y\r\n'), 100);
      client.send(`GET / HTTP/1.1\r\n${HOST}`);
      const responses = await client.responses();
      clearInterval(timer);
      return responses;
    }, '408 request_timeout'],
  ],
  'RFC 9112 8 incomplete messages': [
    ['the client leaves within a head', async (client) => { client.socket.end('GET / HT'); return client.responses(); }, ''],
    ['the client leaves within a body', async (client) => { client.socket.end(post('Content-Length: 9\r\n', '{}')); return client.responses(); }, ''],
    ['the client leaves within a chunk', async (client) => { client.socket.end(chunked('9\r\n{}')); return client.responses(); }, ''],
    ['every byte on its own', async (client) => {
      for (const byte of chunked('2;a="b"\r\n{}\r\n0\r\nX: y\r\n\r\n')) {
        client.send(byte);
        await new Promise(setImmediate);
      }
      client.send(LAST);
      return client.responses();
    }, READ],
  ],
};

// "200 404 method_not_found 304"
export function summary(responses) {
  return responses.map(({ status, body }) => (body?.code ? `${status} ${body.code}` : String(status))).join(' ');
}
