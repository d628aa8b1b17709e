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
  console.log(`  ${what.padEnd(46)} ${(performance.now() - began).toFixed(1).padStart(8)} ms`);
  return result;
}

function expect(truth, what) {
  if (!truth) throw new Error(`not so: ${what}`);
}

async function person(name) {
  const api = new Api(apiUrl);
  const username = `${name.toLowerCase()}-${Date.now().toString(36)}`; // so that it can be run again on the same host
  const password = `${name} has a secret`;
  await timed(`${name} registers over REST`, () => api.register(username, password, name));
  await timed(`${name} signs in`, () => api.login(username, password, 'smoke'));
  const client = new Client(socketUrl, api);
  await timed(`${name} connects over WebSocket`, () => client.connect());
  return { name, api, client };
}

// Sends, and waits until it was both acknowledged and pushed; says how long each took.
async function say(from, how, to, conversation, text, send) {
  const began = performance.now();
  let acknowledged;
  const seen = to.client.until(`"${text}" reaches ${to.name}`, () => to.client.of(conversation).find((message) => message.data.message?.text === text));
  const [answer, message] = await Promise.all([send().then((result) => ((acknowledged = performance.now()), result)), seen]);
  const [ack, push] = [acknowledged, message.at].map((time) => (time - began).toFixed(1));
  console.log(`  ${`${from.name} ${how}: "${text}"`.padEnd(46)} stored and acknowledged after ${ack} ms, pushed to ${to.name} after ${push} ms`);
  return { answer, message };
}

async function trace(conversation) {
  const entries = await until('the trace is in the journal', 5, async () => {
    const found = await host.journal(`STONECHAT_CONVERSATION=${conversation}`);
    return found.filter((entry) => entry.STONECHAT_TRACE_ID).length ? found : null;
  });
  const id = entries.filter((entry) => entry.STONECHAT_TRACE_ID).at(-1).STONECHAT_TRACE_ID;
  console.log(`\nThe way of the last message: journalctl STONECHAT_TRACE_ID=${id}`);
  const output = await host.call('journalctl', '--boot', '--no-pager', '--quiet', '--output=short-precise', '--no-hostname', `STONECHAT_TRACE_ID=${id}`);
  console.log(output.replace(/^/gm, '  ').trimEnd());
}

const clients = [];
try {
  console.log('What two clients see:');
  const ada = await person('Ada');
  const grace = await person('Grace');
  clients.push(ada.client, grace.client);

  const conversation = await timed('Ada opens a direct conversation with Grace', () => ada.api.openDirect(grace.api.user.id));
  await Promise.all(clients.map((client) => client.event('subscribed', { where: (context) => context.channel === conversation })));

  const first = await say(ada, 'by rpc', grace, conversation, 'Hello, Grace!', () => ada.client.send(conversation, 'Hello, Grace!'));
  expect(first.answer.seq === 1, 'the first message has seq 1');
  expect(first.message.offset === 1, 'it is pushed with offset 1');
  const second = await say(ada, 'over REST', grace, conversation, 'How are you?', () => ada.api.send(conversation, 'How are you?'));
  expect(second.answer.seq === 2, 'the second message has seq 2');
  const third = await say(grace, 'by publish', ada, conversation, 'Very well.', () => grace.client.publish(conversation, { text: 'Very well.' }));
  expect(third.message.offset === 3, 'the third message is pushed with offset 3');
  if (host) await trace(conversation);

  console.log('');
  const history = await timed('Grace reads the history over REST', () => grace.api.wholeHistory(conversation));
  const texts = history.map((message) => `${message.seq} ${message.text}`).join();
  expect(texts === '1 Hello, Grace!,2 How are you?,3 Very well.', `the history has all three messages in order: ${texts}`);
  console.log('\nAll as it should be.');
} catch (error) {
  console.log(`\nFAILED: ${error.message}`);
  for (const client of clients) console.log(JSON.stringify({ user: client.api.user.username, events: client.events, messages: client.messages }));
  if (host) console.log(await host.call('journalctl', '--boot', '--no-pager', '--lines=60', '--unit=stonechat*'));
  process.exitCode = 1;
} finally {
  for (const client of clients) client.disconnect();
}
process.exit();
