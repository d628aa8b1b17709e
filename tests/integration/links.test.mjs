// SPDX-License-Identifier: Apache-2.0
// The connections between the roles: a role that is stopped is given up by its peers and found again, and who has no business on
// an internal socket is refused by name, while two people talk.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { newUser } from './lib/api.mjs';
import { Client } from './lib/clients.mjs';
import { Host, until } from './lib/host.mjs';
import { Talker, findFaults } from './lib/talk.mjs';

const CONFIGURATION = '[Rpc]\nTimeoutSec=2s\n[Api]\nLoginRate=0\n[Limits]\nUserRate=0\nAddressRate=0\n';
const GROUP = 'stonechat-group.service';
const PEER_REFUSED = '5b696d97491847949c184d1d05206c6f';
const PEER_DEAD = 'f13fe308c73f4d5282f0a569eab3bc18';
const CALL_REFUSED = 'a8f63161d6c54e95a7cb46f5282c0803';

// Speaks frames to the group role's socket, as root; prints what came back, a line a frame, until the end of the connection.
const PEER = String.raw`
import socket, struct, sys
def varint(n):
    out = b''
    while n > 127: out += bytes([n & 127 | 128]); n >>= 7
    return out + bytes([n])
def text(field, s): return bytes([field << 3 | 2]) + varint(len(s)) + s.encode()
def frame(b): return struct.pack('>I', len(b)) + b
def hello(version, oldest, role):
    inner = b'\x08' + varint(version) + b'\x10' + varint(oldest) + text(3, role)
    return frame(b'\x08\x03\x62' + varint(len(inner)) + inner)
def request(method): return frame(b'\x10\x01' + text(3, method))
WHAT = {
    'nothing': b'',
    'no-hello': request('group.ping'),
    'version': hello(9, 9, 'socket'),
    'garbage': b'GET / HTTP/1.1\r\n\r\n',
    'forbidden': hello(1, 1, 'socket') + request('inbox.session_ended'),
    'allowed': hello(1, 1, 'api') + request('group.ping'),
}
s = socket.socket(socket.AF_UNIX)
s.connect('/run/stonechat/rpc/group/rpc.sock')
s.settimeout(60)
s.sendall(WHAT[sys.argv[1]])
data, wanted = b'', int(sys.argv[2])
while len(data) < 1 << 20:
    try: more = s.recv(65536)
    except ConnectionResetError: more = b''
    data += more
    frames = []
    rest = data
    while len(rest) >= 4 and len(rest) - 4 >= struct.unpack('>I', rest[:4])[0]:
        n = struct.unpack('>I', rest[:4])[0]
        frames.append(rest[4:4 + n].hex())
        rest = rest[4 + n:]
    if not more or len(frames) >= wanted: break
print('\n'.join(frames))
print('end' if not more else 'open')
`;

describe('links between the roles', () => {
  let host;
  before(async () => {
    host = await Host.boot({
      files: {
        '/etc/stonechat/stonechat.conf.d/50-test.conf': CONFIGURATION,
        '/root/peer.py': PEER,
        // A process that is stopped does not feed the watchdog; here its peers are to find out.
        [`/etc/systemd/system/${GROUP}.d/test.conf`]: '[Service]\nWatchdogSec=0\n',
      },
    });
  });
  after(() => host?.stop());

  async function underLoad(trouble) {
    const apis = [await newUser(host.api), await newUser(host.api)];
    const conversation = await apis[0].openDirect(apis[1].user.id);
    const people = [];
    let disconnected = 0;
    for (const api of apis) {
      const client = new Client(host.socket, api, { timeout: 5000 });
      await client.connect();
      client.centrifuge.on('disconnected', () => { disconnected++; }).on('connecting', () => { disconnected++; });
      people.push(new Talker(client, conversation, api.username));
    }
    try {
      for (const talker of people) talker.start();
      await until('both are talking', 20, () => people.every((talker) => talker.acked.size > 20));
      await trouble(people);
      const before = people.map((talker) => talker.acked.size);
      await until('both are talking again', 30, () => people.every((talker, i) => talker.acked.size > before[i] + 20));
      await Promise.all(people.map((talker) => talker.stop()));
      const history = await apis[0].wholeHistory(conversation);
      await Promise.all(people.map((talker) => talker.hearsUpTo(history.length)));
      assert.deepEqual(findFaults(history, people).slice(0, 10), []);
      assert.equal(disconnected, 0, 'a client was disconnected');
      return people;
    } finally {
      for (const talker of people) talker.abandon();
    }
  }

  it('a role that is stopped is given up; calls fail by name, and go on when it does', { timeout: 180_000 }, async (t) => {
    const people = await underLoad(async (talkers) => {
      await host.kill(GROUP, 'SIGSTOP');
      await until('calls fail', 30, () => talkers.every((talker) => talker.errors.size > 0));
      await until('its peers give it up', 60, async () => (await host.journal(`MESSAGE_ID=${PEER_DEAD}`)).length > 0);
      await host.kill(GROUP, 'SIGCONT');
    });
    const errors = [...new Set(people.flatMap((talker) => [...talker.errors.keys()]))];
    t.diagnostic(errors.join('; '));
    for (const error of errors) assert.match(error, /^(100|1003|1004) /);
    const [entry] = await host.journal(`MESSAGE_ID=${PEER_DEAD}`);
    assert.match(entry.MESSAGE, /^Giving up the role at .*group.*: nothing has come from it for too long\.$/);
  });

  it('who has no business there is refused by name, and nobody else notices', { timeout: 120_000 }, async () => {
    const speak = async (what, wanted = 9) => (await host.call('python3', '/root/peer.py', what, String(wanted))).trim().split('\n');
    const before = (await host.statistics('Group')).calls_refused_to_roles;
    await underLoad(async () => {
      for (const what of ['no-hello', 'version', 'garbage']) assert.equal((await speak(what)).at(-1), 'end', what);
      const refused = await speak('forbidden', 2);
      assert.equal(refused.at(-1), 'open');
      assert.match(refused[1], /^08011001.*400c/, 'permission_denied');
      assert.match((await speak('allowed', 2))[1], /^08011001$/);
      assert.equal((await speak('nothing')).at(-1), 'end', 'after 15 s');
    });
    assert.equal((await host.statistics('Group')).calls_refused_to_roles, before + 1);
    const [call] = await host.journal(`MESSAGE_ID=${CALL_REFUSED}`);
    assert.match(call.MESSAGE, /^Refusing inbox\.session_ended to the role socket, which may not call it\.$/);
    assert.equal(call.STONECHAT_METHOD, 'inbox.session_ended');
    const reasons = (await host.journal(`MESSAGE_ID=${PEER_REFUSED}`)).map((entry) => entry.MESSAGE);
    for (const reason of [/its first frame is no HELLO\.$/, /a version of the frames that we do not\.$/]) {
      assert.ok(reasons.some((text) => reason.test(text)), `${reason} in ${reasons.join('\n')}`);
    }
    const dead = (await host.journal(`MESSAGE_ID=${PEER_DEAD}`)).map((entry) => entry.MESSAGE);
    assert.ok(dead.some((text) => /process \d+ of user id 0 .*: it has not said who it is in time\.$/.test(text)), dead.join('\n'));
  });
});
