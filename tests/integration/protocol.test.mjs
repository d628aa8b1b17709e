// SPDX-License-Identifier: Apache-2.0
// The transcript of docs/protocol.md is what the server says.
import { readFileSync } from 'node:fs';
import { after, before, it } from 'node:test';
import { newUser } from './lib/api.mjs';
import { Host } from './lib/host.mjs';
import { parseTranscript, replay } from './lib/transcript.mjs';

let host;
before(async () => { host = await Host.boot(); });
after(async () => { await host?.stop(); });

it('docs/protocol.md tells the truth', async () => {
  const steps = parseTranscript(readFileSync(new URL('../../docs/protocol.md', import.meta.url), 'utf8'));
  const [ann, bo] = [await newUser(host.api), await newUser(host.api)];
  await replay(steps, host.socket, {
    '<ann>': ann.user.id, '<ann.token>': ann.accessToken, '<bo>': bo.user.id, '<bo.token>': bo.accessToken,
  });
});
