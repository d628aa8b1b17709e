#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that tools/check-includes finds what it is there to find: test-check-includes.py CHECK-INCLUDES"""
import pathlib
import subprocess
import sys
import tempfile
import unittest

program = ''


def check(files):
    """Runs the checker on a tree {path: [included file]}: exit status and output without the tree's own path."""
    with tempfile.TemporaryDirectory() as directory:
        for path, includes in files.items():
            file = pathlib.Path(directory, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(''.join(f'#include {name if name[0] == "<" else chr(34) + name + chr(34)}\n' for name in includes))
        done = subprocess.run([program, directory], stdout=subprocess.PIPE, text=True)
        return done.returncode, done.stdout.replace(directory + '/', '')


class CheckIncludes(unittest.TestCase):
    def assert_good(self, files):
        self.assertEqual(check(files), (0, 'every include points downward\n'))

    def assert_bad(self, files, *lines):
        status, output = check(files)
        self.assertEqual(status, 1)
        self.assertEqual(output.splitlines(), list(lines))

    def test_good(self):
        self.assert_good({
            'group/role-state.h': ['store/store.h'],
            'group/message/send.c': ['group/message/sequence.h', 'group/member/member.h', 'schema-tables.h', '<stdio.h>'],
            'group/message/sequence.h': ['group/role-state.h'],
            'group/message/sequence.c': ['group/message/sequence.h'],
            'group/member/member.h': ['group/role-state.h'],
            'group/group.c': ['group/message/sequence.h', 'group/member/member.h'],
        })

    def test_layers(self):
        self.assert_bad({'util/bytes.h': ['log/log.h']}, 'util/bytes.h:1: util must not include log')
        self.assert_bad({'api/api.c': ['util/bytes.h', 'group/group.h']}, 'api/api.c:2: api must not include group')

    def test_libraries(self):
        self.assert_bad({'api/rest.c': ['<uv.h>']}, 'api/rest.c:1: <uv.h> belongs to web')
        self.assert_bad({'rpc/stream.c': ['<openssl/ssl.h>']}, 'rpc/stream.c:1: <openssl/ssl.h> belongs to service, transport')
        self.assert_good({'web/loop.c': ['<uv.h>']})

    def test_two_components(self):
        self.assert_bad({'socket/session.c': ['socket/channel.h'], 'socket/channel.c': ['socket/session.h']},
                        'components include each other in a circle: socket/channel, socket/session',
                        '    socket/channel includes socket/session', '    socket/session includes socket/channel')

    def test_long_circle(self):
        self.assert_bad({'socket/a.h': ['socket/b.h'], 'socket/b.c': ['socket/c.h'], 'socket/c.h': ['socket/a.h', 'socket/d.h'],
                         'socket/d.c': ['socket/d.h']},
                        'components include each other in a circle: socket/a, socket/b, socket/c',
                        '    socket/a includes socket/b', '    socket/b includes socket/c', '    socket/c includes socket/a')

    def test_two_circles(self):
        status, output = check({'api/a.c': ['api/b.h'], 'api/b.c': ['api/a.h', 'api/c.h'], 'api/c.c': ['api/d.h'], 'api/d.c': ['api/c.h']})
        self.assertEqual((status, output.count('in a circle')), (1, 2))

    def test_below_the_roles_only_headers_count(self):
        self.assert_good({'store/store.c': ['store/operation.h'], 'store/operation.h': ['store/store.h']})
        self.assert_bad({'store/store.h': ['store/operation.h'], 'store/operation.h': ['store/store.h']},
                        'components include each other in a circle: store/operation, store/store',
                        '    store/operation includes store/store', '    store/store includes store/operation')

    def test_folders(self):
        self.assert_bad({'group/message/send.c': ['group/member/access.h'], 'group/member/list.c': ['group/message/page.h']},
                        'folders include each other in a circle: group/member, group/message',
                        '    group/member includes group/message', '    group/message includes group/member')


if __name__ == '__main__':
    program = sys.argv.pop(1)
    unittest.main()
