// SPDX-License-Identifier: Apache-2.0
// Two people who keep talking whatever happens to the server, and the checker that afterwards decides whether anything that was
// acknowledged is missing, doubled or out of order.

import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

/** One side of a conversation: sends, repeats what was not answered, and writes down everything. */
export class Talker {
  constructor(client, conversation, name) {
    this.centrifuge = client.centrifuge;
    this.conversation = conversation;
    this.name = name;
    this.acked = new Map();      // client_msg_id → seq
    this.heard = [];             // { seq, id, at } in the order of arrival
    this.ackTimes = [];
    this.errors = new Map();     // what a send was refused with → how often
    this.duplicates = 0;         // answers that said: stored before
    this.running = false;
    this.centrifuge.on('publication', (context) => {
      if (context.channel !== conversation || context.offset === undefined) return;
      this.heard.push({ seq: context.offset, id: context.data.message.client_msg_id, at: performance.now() });
    });
  }

  /** Starts `parallel` senders, each `pauseMs` between an answer and its next message. */
  start({ parallel = 4, pauseMs = 5 } = {}) {
    this.running = true;
    this.senders = Array.from({ length: parallel }, () => this.#sendForever(pauseMs));
  }

  async stop() {
    this.running = false;
    await Promise.all(this.senders);
  }

  /** Gives up, whatever is under way: for the end of a test, however it ends. */
  abandon() {
    this.running = false;
    this.abandoned = true;
    this.centrifuge.disconnect();
  }

  async #sendForever(pauseMs) {
    while (this.running) {
      await this.#sendOnce(randomUUID());
      await sleep(pauseMs);
    }
  }

  /** A message goes out under one client_msg_id until it is acknowledged. */
  async #sendOnce(id) {
    const deadline = performance.now() + 60_000;
    while (performance.now() < deadline && !this.abandoned) {
      try {
        await this.centrifuge.ready(20_000);
        const { data } = await this.centrifuge.rpc('message.send', {
          conversation: this.conversation, client_msg_id: id, text: `${this.name} ${id}`,
        });
        if (data.duplicate) this.duplicates++;
        this.acked.set(id, data.seq);
        this.ackTimes.push(performance.now());
        return;
      } catch (error) {
        const what = `${error.code ?? ''} ${error.message ?? error}`.trim();
        this.errors.set(what, (this.errors.get(what) ?? 0) + 1);
        await sleep(20);
      }
    }
    if (!this.abandoned) throw new Error(`${this.name}: message ${id} was not acknowledged within a minute`);
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
 * duplicate, nothing out of order, and everybody heard exactly what is stored.
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
    const last = talker.heard.at(-1)?.seq ?? 0;
    if (last !== history.length) faults.push(`${talker.name} heard up to ${last} of ${history.length}`);
  }
  return faults;
}
