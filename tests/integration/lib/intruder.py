# SPDX-License-Identifier: Apache-2.0
"""What somebody tries who has broken into a role: runs with the role's user, credentials and sandbox.

Prints a JSON object, {name of the attempt: what came of it}: an error's name (EACCES), or what was answered.
"""
import errno
import json
import os
import socket
import struct
import subprocess
import sys

outcomes = {}


def attempt(name, function):
    try:
        outcomes[name] = function()
    except OSError as error:
        outcomes[name] = errno.errorcode.get(error.errno, str(error))


def read(path):
    with open(path, 'rb') as file:
        file.read(1)
    return 'read'


# --- the internal RPC: four bytes of length, then an Envelope of proto/stonechat/v1/internal.proto -------------------

def varint(value):
    out = b''
    while value > 0x7f:
        out += bytes([value & 0x7f | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(data):
    """{number: value} of a message; the last of repeated ones."""
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = number()
        if tag & 7 == 0:
            found[tag >> 3] = number()
            continue
        size = {1: 8, 2: None, 5: 4}[tag & 7]
        size = number() if size is None else size
        found[tag >> 3] = data[at:at + size]
        at += size
    return found


KIND, ID, METHOD, CALLER, PAYLOAD, ERROR, HELLO = 1, 2, 3, 5, 7, 8, 12
RESPONSE, HELLO_KIND, PING, PONG = 1, 3, 4, 5


class Link:
    def __init__(self, role, claimed):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(f'/run/stonechat/rpc/{role}/rpc.sock')
        self.send(field(KIND, HELLO_KIND) + field(HELLO, field(1, 1) + field(2, 1) + field(3, claimed) + field(4, '0')))

    def send(self, envelope):
        self.socket.sendall(struct.pack('>I', len(envelope)) + envelope)

    def receive(self, size):
        data = b''
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise OSError(errno.ECONNRESET, 'closed')
            data += more
        return data

    def call(self, method, payload=b'', user=None):
        """The error code of the answer; 0: it was done."""
        self.send(field(ID, 7) + field(METHOD, method) + field(PAYLOAD, payload) + (field(CALLER, field(1, user)) if user else b''))
        while True:
            envelope = fields(self.receive(struct.unpack('>I', self.receive(4))[0]))
            if envelope.get(KIND) == PING:
                self.send(field(KIND, PONG))
            elif envelope.get(KIND) == RESPONSE and envelope.get(ID) == 7:
                return envelope.get(ERROR, 0)


def call(role, method, payload=b'', claimed='socket', user=None):
    attempt(f'{method} as {claimed}', lambda: Link(role, claimed).call(method, payload, user))


def command(*arguments):
    done = subprocess.run(arguments, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else 'refused' if 'denied' in done.stderr.lower() else done.stderr.strip()


def main():
    plan = json.loads(sys.argv[1])
    for path in plan['files']:
        attempt(path, lambda: read(path))
    attempt('credentials', lambda: sorted(os.listdir(os.environ['CREDENTIALS_DIRECTORY'])))
    for pid in plan['pids']:
        attempt(f'signal {pid}', lambda: os.kill(int(pid), 0) or 'sent')
        attempt(f'memory of {pid}', lambda: read(f'/proc/{pid}/mem'))
    for name in plan['names']:
        # Asks for it, and if there is an owner does not wait.
        outcomes[f'own {name}'] = command('busctl', 'call', 'org.freedesktop.DBus', '/', 'org.freedesktop.DBus', 'RequestName', 'su', name, '4')
    for name in plan['reload']:
        outcomes[f'reload {name}'] = command('busctl', 'call', name, '/org/stonechat/Role', 'org.stonechat.Role1', 'Reload')
        outcomes[f'credentials of {name}'] = command('busctl', 'call', name, '/org/stonechat/Role', 'org.stonechat.Role1', 'ReloadCredentials', 'a{sh}', '0')
        outcomes[f'level of {name}'] = command('busctl', 'set-property', name, '/org/freedesktop/LogControl1', 'org.freedesktop.LogControl1', 'LogLevel', 's', 'debug')
        outcomes[f'look at {name}'] = command('busctl', 'get-property', name, '/org/stonechat/Role', 'org.stonechat.Role1', 'Healthy')
    for role in plan['connect']:
        attempt(f'connect {role}', lambda: Link(role, 'socket') and 'connected')
    for role, method, claimed, payload in plan['calls']:
        call(role, method, b''.join(field(int(number), value) for number, value in payload.items()), claimed)
    print(json.dumps(outcomes))


main()
