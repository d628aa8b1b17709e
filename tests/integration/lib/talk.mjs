// SPDX-License-Identifier: Apache-2.0
// Two people who keep talking whatever happens to the server, and the checker that afterwards decides whether anything that was
// acknowledged is missing, doubled or out of order.

import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * One side of a conversation: sends numbered texts, several under way, and writes down everything. It wants its order kept: when
 * one fails, it waits until all that is under way is answered, and sends again what failed, in order, under the same ids, before
 * anything new.
 */
export class Talker {
  #slots = 0;             // how many more may be sent now
  #unanswered = 0;
  #failedFrom = Infinity; // the lowest number that failed since all was well
  #silentFrom = Infinity; // the lowest of those that the server did not refuse
  #lastAcked = 0;         // the highest number acknowledged since then
  #wake = () => {};

  constructor(client, conversation, name) {
    this.centrifuge = client.centrifuge;
    this.conversation = conversation;
    this.name = name;
    this.sent = [];              // the ids, by number - 1
    this.acked = new Map();      // client_msg_id → seq
    this.heard = [];             // { seq, id, at } in the order of arrival
    this.ackTimes = [];
    this.errors = new Map();     // what a send was refused with → how often
    this.duplicates = 0;         // answers that said: stored before
    this.overtaken = [];         // what was stored though one before it had failed
    this.running = false;
    this.centrifuge.on('publication', (context) => {
      if (context.channel !== conversation || context.offset === undefined) return;
      this.heard.push({ seq: context.offset, id: context.data.message.client_msg_id, at: performance.now() });
    });
  }

  /** Keeps so many messages under way; a next one follows `pauseMs` after an answer. */
  start({ parallel = 4, pauseMs = 5 } = {}) {
    this.running = true;
    this.pauseMs = pauseMs;
    this.#slots = parallel;
    this.sending = this.#send();
  }

  async stop() {
    this.running = false;
    this.#wake();
    await this.sending;
  }

  /** Gives up, whatever is under way: for the end of a test, however it ends. */
  abandon() {
    this.running = false;
    this.abandoned = true;
    this.#wake();
    this.centrifuge.disconnect();
  }

  async #send() {
    while (!this.abandoned) {
      const left = this.sent.filter((id) => !this.acked.has(id));
      if (!this.running && left.length === 0) return;
      if (this.#failedFrom < Infinity && this.#unanswered === 0) await this.#sendAgain(left);
      else if (this.#failedFrom === Infinity && this.running && this.#slots > 0) {
        this.sent.push(randomUUID());
        this.#sendOne(this.sent.length);
      } else await new Promise((resolve) => { this.#wake = resolve; });
    }
  }

  async #sendAgain(left) {
    if (this.failing === undefined) this.failing = performance.now();
    else if (performance.now() > this.failing + 60_000) throw new Error(`${this.name}: ${left.length} messages were not acknowledged within a minute`);
    await sleep(20);
    await this.centrifuge.ready(20_000).catch(() => {});
    this.#failedFrom = Infinity;
    this.#silentFrom = Infinity;
    this.#lastAcked = 0;
    for (const id of left) this.#sendOne(this.sent.indexOf(id) + 1);
  }

  #sendOne(number) {
    const id = this.sent[number - 1];
    this.#slots--;
    this.#unanswered++;
    this.centrifuge.rpc('message.send', { conversation: this.conversation, client_msg_id: id, text: `${this.name} ${number}` }).then(({ data }) => {
      if (data.duplicate) this.duplicates++;
      this.acked.set(id, data.seq);
      this.ackTimes.push(performance.now());
      this.failing = undefined;
      this.#lastAcked = Math.max(this.#lastAcked, number);
      if (number > this.#failedFrom && number < this.#silentFrom) this.overtaken.push(`${number} after ${this.#failedFrom} had failed`);
    }, (error) => {
      const what = `${error.code ?? ''} ${error.message ?? error}`.trim();
      this.errors.set(what, (this.errors.get(what) ?? 0) + 1);
      this.#failedFrom = Math.min(this.#failedFrom, number);
      // Below 100 it is the SDK that has given up; the server may still answer what is behind.
      if (error.code < 100) this.#silentFrom = Math.min(this.#silentFrom, number);
      else if (number < this.#lastAcked) this.overtaken.push(`${this.#lastAcked}, and ${number} failed: ${what}`);
    }).finally(async () => {
      this.#unanswered--;
      if (this.#failedFrom === Infinity && this.pauseMs > 0) await sleep(this.pauseMs);
      this.#slots++;
      this.#wake();
    });
  }

  /** The longest time without an acknowledgement, in milliseconds. */
  longestPause() {
    let longest = 0;
    for (let i = 1; i < this.ackTimes.length; i++) longest = Math.max(longest, this.ackTimes[i] - this.ackTimes[i - 1]);
    return Math.round(longest);
  }

  /** Waits until everything up to `seq` was heard; whoever is behind after that long has lost something. */
  async hearsUpTo(seq, timeoutMs = 15_000) {
    const deadline = performance.now() + timeoutMs;
    while (performance.now() < deadline) {
      if ((this.heard.at(-1)?.seq ?? 0) >= seq) return;
      await sleep(20);
    }
  }
}

/**
 * What is wrong with a conversation, in sentences; an empty list means: nothing acknowledged is missing, no gap, no
 * duplicate, each one's texts in the order in which they were sent, and everybody heard exactly what is stored.
 */
export function findFaults(history, talkers) {
  const faults = [];
  const stored = new Map();
  history.forEach((message, i) => {
    if (message.seq !== i + 1) faults.push(`the store has seq ${message.seq} in place ${i + 1}`);
    const key = `${message.sender} ${message.client_msg_id}`;
    if (stored.has(key)) faults.push(`${key} is stored twice: ${stored.get(key)} and ${message.seq}`);
    stored.set(key, message.seq);
  });
  const byId = new Map(history.map((message) => [message.client_msg_id, message.seq]));
  for (const talker of talkers) {
    for (const [id, seq] of talker.acked) {
      if (byId.get(id) !== seq) faults.push(`${talker.name}: ${id} was acknowledged as ${seq} and is stored as ${byId.get(id)}`);
    }
    talker.heard.forEach(({ seq, id }, i) => {
      const before = i > 0 ? talker.heard[i - 1].seq : seq - 1;
      if (seq !== before + 1) faults.push(`${talker.name} heard ${seq} after ${before}`);
      if (byId.get(id) !== seq) faults.push(`${talker.name} heard ${id} as ${seq}, which is stored as ${byId.get(id)}`);
    });
    for (const what of talker.overtaken) faults.push(`${talker.name}: acknowledged was ${what}`);
    // Every text was sent until it was acknowledged: so all are there, in the order of their numbers.
    const texts = history.filter(({ text }) => text.startsWith(`${talker.name} `)).map(({ text }) => Number(text.slice(talker.name.length + 1)));
    texts.forEach((number, i) => {
      if (number !== i + 1) faults.push(`${talker.name}: text ${number} is stored in place ${i + 1}`);
    });
    if (texts.length !== talker.sent.length) faults.push(`${talker.name} sent ${talker.sent.length} texts, and ${texts.length} are stored`);
    const last = talker.heard.at(-1)?.seq ?? 0;
    if (last !== history.length) faults.push(`${talker.name} heard up to ${last} of ${history.length}`);
  }
  return faults;
}
