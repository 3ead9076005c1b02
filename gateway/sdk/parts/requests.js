// Commands that are answered by `ok`: asked again on the next link when one breaks, because each may be repeated.

import { Closed, OutcomeUnknown, QueueFull, Unavailable, refusalOf } from './errors.js';
import { jitter } from './backoff.js';

const ASK_AGAIN_CAP_MS = 2_000;

export class Requests {
  #options;
  #open = new Map();
  #link = null;
  #numbered = 0;
  #stopped = new Closed('not connected: call connect() first');

  // `options`: queueMax, answerS.
  constructor(options) {
    this.#options = options;
  }

  // Sends a command when there is a link, within `answerS`; the promise is of its answer.
  ask(type, fields = {}) {
    if (this.#stopped) throw this.#stopped;
    if (this.#open.size >= this.#options.queueMax) throw new QueueFull(503, `${this.#open.size} commands wait already`);
    const id = `c${(this.#numbered += 1)}`;
    return new Promise((resolve, reject) => {
      const entry = { id, resolve, reject, attempt: 0, written: false, pause: null };
      entry.frame = JSON.stringify({ type, id, ...fields });
      entry.deadline = setTimeout(() => this.#late(entry), this.#options.answerS * 1000);
      this.#open.set(id, entry);
      this.#write(entry);
    });
  }

  live(link) {
    this.#link = link;
    for (const entry of this.#open.values()) this.#write(entry);
  }

  broken() {
    this.#link = null;
    for (const entry of this.#open.values()) clearTimeout(entry.pause);
  }

  // The client has begun; until then, and after `stop`, nothing is taken.
  start() {
    this.#stopped = null;
  }

  stop(error) {
    this.broken();
    this.#stopped = error;
    for (const entry of [...this.#open.values()]) this.#settle(entry).reject(error);
  }

  // An answer with the id of a request.
  answered(reply) {
    const entry = this.#open.get(reply.id);
    if (!entry) return;
    if (reply.type !== 'error') {
      this.#settle(entry).resolve(reply);
    } else if (reply.code === 503 || reply.code === 20604) {
      // Refused for now: again within the time that it has; then this refusal is what it fails with.
      entry.refusal = refusalOf(reply);
      entry.written = false;
      const wait = reply.retry_after_ms ?? jitter((entry.attempt += 1), ASK_AGAIN_CAP_MS);
      entry.pause = setTimeout(() => this.#write(entry), wait);
    } else {
      this.#settle(entry).reject(refusalOf(reply));
    }
  }

  #write(entry) {
    if (!this.#link) return;
    entry.written = true;
    this.#link.say(entry.frame);
  }

  #late(entry) {
    const seconds = this.#options.answerS;
    let error = entry.refusal ?? new Unavailable(503, `not connected within ${seconds} s`);
    if (entry.written) error = new OutcomeUnknown(504, `no answer within ${seconds} s`);
    this.#settle(entry).reject(error);
  }

  #settle(entry) {
    clearTimeout(entry.deadline);
    clearTimeout(entry.pause);
    this.#open.delete(entry.id);
    return entry;
  }
}
