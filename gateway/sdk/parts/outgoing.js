// Messages on their way out: a bounded queue, one lane a recipient, and repeats until the outcome is known.

import { Closed, OutcomeUnknown, QueueFull, TooLarge, Unavailable, refusalOf } from './errors.js';
import { Pace, jitter } from './backoff.js';

const REPEAT_CAP_MS = 5_000;
// A repeat is ten times as dear as a first send, to the gateway's count.
const REPEAT_COST = 10;
// With less time than this left a message is not written any more: no answer could come.
const LAST_MS = 10;

// A UUIDv7: its first 48 bits are the time in milliseconds. It must be unique, not secret.
export function uuid7() {
  const bytes = new Uint8Array(16);
  // Node 18 has no global `crypto`.
  if (globalThis.crypto) crypto.getRandomValues(bytes);
  else bytes.forEach((_, at) => (bytes[at] = Math.random() * 256));
  let time = Date.now();
  for (let at = 5; at >= 0; at -= 1, time = Math.floor(time / 256)) bytes[at] = time % 256;
  bytes[6] = (bytes[6] & 0x0f) | 0x70;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

function fits(text, bytesMax) {
  return text.length * 3 <= bytesMax || new TextEncoder().encode(text).length <= bytesMax;
}

export class Outgoing {
  #options;
  #lanes = new Map();
  #out = new Map();
  #count = 0;
  #numbered = 0;
  #link = null;
  #limits = null;
  #pace = null;
  #pausedUntil = 0;
  #timer = null;
  #timerAt = 0;
  #stopped = new Closed('not connected: call connect() first');

  // `options`: queueMax, inFlight, answerS, sendS.
  constructor(options) {
    this.#options = options;
  }

  // Takes a message; the promise is of what the gateway says of it.
  send(to, body, { kind = 'text', ephemeral = false, key, retry = false } = {}) {
    if (retry && key === undefined) throw new TypeError('a retry needs the key of the first try');
    const text = JSON.stringify(body);
    if (text === undefined) throw new TypeError('the body of a message must be JSON');
    if (this.#stopped) throw this.#stopped;
    if (ephemeral && !this.#link) throw new Unavailable(503, 'not connected: an ephemeral message does not wait');
    if (this.#count >= this.#options.queueMax) throw new QueueFull(503, `${this.#count} messages wait already`);
    const entry = { number: (this.#numbered += 1), to, text, kind, ephemeral, attempt: 0, notBefore: 0 };
    entry.key = ephemeral ? undefined : (key ?? uuid7());
    entry.uncertain = retry && !ephemeral;
    this.#count += 1;
    return new Promise((resolve, reject) => {
      Object.assign(entry, { resolve, reject });
      entry.until = performance.now() + this.#options.sendS * 1000;
      entry.deadline = setTimeout(() => this.#late(entry), this.#options.sendS * 1000);
      if (ephemeral) {
        this.#write(entry);
        return;
      }
      let lane = this.#lanes.get(to);
      if (!lane) this.#lanes.set(to, (lane = { waiting: [], out: 0 }));
      lane.waiting.push(entry);
      this.#go(lane);
    });
  }

  // A link is live, with these limits.
  live(link, limits) {
    this.#link = link;
    this.#limits = limits;
    this.#pausedUntil = 0;
    this.#pace = new Pace(limits.send_rate_per_s, Math.max(limits.send_rate_per_s, REPEAT_COST));
    this.#goAll();
  }

  // The link has ended: what was on it is uncertain, and goes first on the next one.
  broken() {
    this.#link = null;
    clearTimeout(this.#timer);
    this.#timer = null;
    for (const entry of [...this.#out.values()]) this.#again(entry, 0, true);
    this.#out.clear();
  }

  // The client has begun; until then, and after `stop`, nothing is taken.
  start() {
    this.#stopped = null;
  }

  stop(error) {
    this.broken();
    this.#stopped = error;
    for (const lane of [...this.#lanes.values()]) {
      for (const entry of [...lane.waiting]) this.#fail(entry, error);
    }
  }

  // A `sent` or an `error` with the id of a send.
  answered(reply) {
    const entry = this.#out.get(reply.id);
    if (!entry) return;
    if (reply.type === 'sent') {
      const { mid, sent_at: sentAt, online, code = null, extra = null } = reply;
      this.#settle(entry);
      entry.resolve({ mid, sentAt, online, code, extra });
    } else if (reply.id !== entry.id) {
      // The outcome of an attempt that was given up for another, which is still out, says nothing of the other.
      this.#out.delete(reply.id);
    } else if (reply.code === 503 || reply.code === 504 || reply.code === 20604) {
      this.#refusedForNow(entry, reply);
    } else {
      this.#settle(entry);
      entry.reject(refusalOf(reply));
    }
  }

  #refusedForNow(entry, reply) {
    if (entry.ephemeral) {
      this.#settle(entry);
      entry.reject(refusalOf(reply));
      return;
    }
    if (reply.code === 20604) this.#pausedUntil = performance.now() + (reply.retry_after_ms ?? 1000);
    const wait = reply.code === 20604 ? 0 : (reply.retry_after_ms ?? jitter(entry.attempt, REPEAT_CAP_MS));
    this.#again(entry, wait, entry.uncertain || reply.code === 504);
  }

  #goAll() {
    for (const lane of this.#lanes.values()) if (!this.#go(lane)) return;
  }

  // Writes what may be written of a lane; false when nothing of any lane may be, for now.
  #go(lane) {
    while (this.#link && lane.out < this.#options.inFlight && lane.waiting.length > 0) {
      const entry = lane.waiting[0];
      const now = performance.now();
      if (entry.until - now < LAST_MS) {
        this.#late(entry);
        continue;
      }
      if (entry.notBefore > now) {
        this.#later(entry.notBefore - now);
        return true;
      }
      const paused = this.#pausedUntil - now;
      const wait = paused > 0 ? paused : this.#pace.take(entry.uncertain ? REPEAT_COST : 1);
      if (wait > 0) {
        this.#later(wait);
        return false;
      }
      lane.waiting.shift();
      lane.out += 1;
      entry.lane = lane;
      this.#write(entry);
    }
    return this.#link !== null;
  }

  #later(milliseconds) {
    const at = performance.now() + milliseconds;
    if (this.#timer !== null && this.#timerAt <= at) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#goAll();
    }, milliseconds);
  }

  #write(entry) {
    entry.id = `s${entry.number}.${(entry.attempt += 1)}`;
    const { id, to, kind, key, ephemeral } = entry;
    const head = { type: 'send', id, to, kind, key, ephemeral: ephemeral || undefined };
    if (entry.uncertain) head.retry = true;
    const frame = `${JSON.stringify(head).slice(0, -1)},"body":${entry.text}}`;
    this.#out.set(id, entry);
    if (!fits(frame, this.#limits.frame_bytes_max)) {
      // The gateway would close the connection over it.
      this.#settle(entry);
      entry.reject(new TooLarge(30016, `over the ${this.#limits.frame_bytes_max} bytes of a frame`));
      return;
    }
    entry.answer = setTimeout(() => this.#unanswered(entry), this.#options.answerS * 1000);
    this.#link.say(frame);
  }

  #unanswered(entry) {
    if (entry.ephemeral) this.#fail(entry, new OutcomeUnknown(504, 'no answer'));
    else this.#again(entry, 0, true, false);
  }

  // Back to the head of its lane; `forget` = an answer to this attempt cannot come any more.
  #again(entry, wait, uncertain, forget = true) {
    clearTimeout(entry.answer);
    if (entry.ephemeral) {
      this.#fail(entry, new OutcomeUnknown(504, 'the connection broke'));
      return;
    }
    if (forget) this.#out.delete(entry.id);
    const lane = entry.lane;
    if (lane.waiting.includes(entry)) {
      entry.uncertain ||= uncertain;
      return;
    }
    entry.uncertain = uncertain;
    entry.notBefore = performance.now() + wait;
    lane.out -= 1;
    const at = lane.waiting.findIndex((other) => other.number > entry.number);
    lane.waiting.splice(at < 0 ? lane.waiting.length : at, 0, entry);
    this.#go(lane);
  }

  #late(entry) {
    this.#fail(entry, new Unavailable(503, `not sent within ${this.#options.sendS} s`));
  }

  #fail(entry, error) {
    const unknown = entry.uncertain || this.#out.get(entry.id) === entry;
    this.#settle(entry);
    if (!unknown || error instanceof OutcomeUnknown) entry.reject(error);
    else entry.reject(new OutcomeUnknown(504, `written, and no answer came: ${error.reason}`, { cause: error }));
  }

  // It needs nothing any more: its timers, its ids and its place in the lane go.
  #settle(entry) {
    clearTimeout(entry.deadline);
    clearTimeout(entry.answer);
    this.#count -= 1;
    for (let attempt = entry.attempt; attempt > 0; attempt -= 1) this.#out.delete(`s${entry.number}.${attempt}`);
    const lane = this.#lanes.get(entry.to);
    if (entry.ephemeral || !lane) return;
    const at = lane.waiting.indexOf(entry);
    if (at >= 0) lane.waiting.splice(at, 1);
    else lane.out -= 1;
    if (lane.out === 0 && lane.waiting.length === 0) this.#lanes.delete(entry.to);
    else this.#go(lane);
  }
}
