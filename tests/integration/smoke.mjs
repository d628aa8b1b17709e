// SPDX-License-Identifier: Apache-2.0
// Two people talk, with the official SDK, and it is told what happened: node smoke.mjs API WEBSOCKET
// With STONECHAT_HOST, the name of a host of tests/harness/host, the journal tells its side too.
import { Api } from './lib/api.mjs';
import { Client } from './lib/clients.mjs';
import { Host, until } from './lib/host.mjs';

const [apiUrl, socketUrl] = process.argv.slice(2);
const host = process.env.STONECHAT_HOST && Host.attach(process.env.STONECHAT_HOST);

async function timed(what, action) {
  const began = performance.now();
  const result = await action();
  console.log(`  ${what.padEnd(66)} ${(performance.now() - began).toFixed(1).padStart(8)} ms`);
  return result;
}

function expect(truth, what) {
  if (!truth) throw new Error(`not so: ${what}`);
}

async function person(name) {
  const api = new Api(apiUrl);
  const password = `${name} has a secret`;
  await timed(`${name} registers over REST`, () => api.register(name, password, name[0].toUpperCase() + name.slice(1)));
  await timed(`${name} signs in`, () => api.login(name, password, 'smoke'));
  const client = new Client(socketUrl, api);
  await timed(`${name} connects over WebSocket`, () => client.connect());
  return { name, api, client };
}

// Sends, and waits until it was both acknowledged and pushed; says how long each took.
async function say(from, to, conversation, text, send) {
  const began = performance.now();
  let acknowledged;
  const seen = to.client.until(`"${text}" reaches ${to.name}`, () => to.client.of(conversation).find((message) => message.data.message?.text === text));
  const [answer, message] = await Promise.all([send().then((result) => ((acknowledged = performance.now()), result)), seen]);
  console.log(`  ${from.name}: "${text}"`.padEnd(50) + `stored after ${(acknowledged - began).toFixed(1)} ms, at ${to.name}'s after ${(message.at - began).toFixed(1)} ms`);
  return { answer, message };
}

async function trace(conversation) {
  const entries = await until('the trace is in the journal', 5, async () => {
    const found = await host.journal(`STONECHAT_CONVERSATION=${conversation}`);
    return found.filter((entry) => entry.STONECHAT_TRACE_ID).length ? found : null;
  });
  const id = entries.filter((entry) => entry.STONECHAT_TRACE_ID).at(-1).STONECHAT_TRACE_ID;
  console.log(`\nThe last message's way: journalctl STONECHAT_TRACE_ID=${id}`);
  const output = await host.call('journalctl', '--boot', '--no-pager', '--quiet', '--output=short-precise', '--no-hostname', `STONECHAT_TRACE_ID=${id}`);
  console.log(output.replace(/^/gm, '  ').trimEnd());
}

const suffix = Date.now().toString(36);
const clients = [];
try {
  console.log('What two clients see:');
  const ada = await person(`ada-${suffix}`);
  const grace = await person(`grace-${suffix}`);
  clients.push(ada.client, grace.client);

  const conversation = await timed('ada opens a direct conversation with grace', () => ada.api.openDirect(grace.api.user.id));
  await Promise.all([ada, grace].map(({ name, client }) => client.event('subscribed', { where: (context) => context.channel === conversation })
    .catch(() => { throw new Error(`${name} was not subscribed to the new conversation`); })));

  const first = await say(ada, grace, conversation, 'Hello, Grace!', () => ada.client.send(conversation, 'Hello, Grace!'));
  expect(first.answer.seq === 1, 'the first message has seq 1');
  expect(first.message.offset === 1, 'it is pushed with offset 1');
  await say(grace, ada, conversation, 'Hello, Ada.', () => grace.client.publish(conversation, { text: 'Hello, Ada.' }));
  const third = await say(ada, grace, conversation, 'How are you?', () => ada.api.send(conversation, 'How are you?'));
  expect(third.answer.seq === 3, 'the third message has seq 3');

  const history = await timed('grace reads the history over REST', () => grace.api.wholeHistory(conversation));
  expect(history.map((message) => `${message.seq} ${message.text}`).join() === '1 Hello, Grace!,2 Hello, Ada.,3 How are you?', 'the history has all three messages in order');
  if (host) await trace(conversation);
  console.log('\nAll as it should be.');
} catch (error) {
  console.log(`\nFAILED: ${error.message}`);
  process.exitCode = 1;
} finally {
  for (const client of clients) client.disconnect();
}
process.exit();
