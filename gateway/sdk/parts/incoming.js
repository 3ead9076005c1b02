// Messages on their way in: each once, in order, and acked once the app has taken them over.

import { within } from './backoff.js';
import { Closed, QueueFull } from './errors.js';
import { Handlers } from './handlers.js';

// Message ids that are remembered, to know a re-delivery by.
const SEEN_MAX = 10_000;
// A batch of acks goes out at so many messages, or after so long.
const ACK_EVERY = 64;
const ACK_AFTER_MS = 200;
// As long as the app's cursor hook may take.
const HOOK_MS = 10_000;

function messageOf(frame) {
  const { mid, from, to, kind, body, sent_at: sentAt } = frame;
  const { cursor = null, device = null, system = false, metadata = null } = frame;
  return { mid, from, to, kind, body, sentAt, cursor, device, system, metadata };
}

const ENTRIES = {
  message: messageOf,
  recalled: ({ mid, from, to, at, cursor, admin = false, extra = null }) => ({ mid, from, to, at, cursor, admin, extra }),
  updated: ({ mid, from, to, body, at, cursor }) => ({ mid, from, to, body, at, cursor }),
};

export class Incoming {
  #options;
  #hooks;
  #queue = [];
  #current = null;
  #seen = new Set();
  #handing = null;
  #iterating = false;
  #wake = () => {};
  #full = false;
  #ended = null;
  // The last entry that was taken over.
  #over = null;
  #link = null;
  #acks;
  #saves;
  #saving = null;
  #unsaved = null;

  // `options`: incomingMax, ack, device, cursors. `hooks`: fault(error), again() to open the link anew.
  constructor(options, hooks) {
    this.#options = options;
    this.#hooks = hooks;
    this.#acks = new Batch((cursor) => this.#ack(cursor));
    this.#saves = new Batch((cursor) => this.#save(cursor));
    this.handlers = { message: new Handlers(hooks.fault), recalled: new Handlers(hooks.fault) };
    this.handlers.updated = new Handlers(hooks.fault);
    // Where to resume from: the last entry received.
    this.since = null;
    this.duplicates = 0;
  }

  // The place to resume from: at first, where an earlier life of the app had come to.
  async load() {
    const { cursors } = this.#options;
    if (cursors) this.since ??= (await within(HOOK_MS, cursors.load(), 'cursors.load did not answer')) ?? null;
    this.#over ??= this.since;
    return this.since;
  }

  // The client has begun, or begins again.
  start() {
    this.#ended = null;
    if (this.handlers.message.size > 0) this.#handing ??= this.#hand();
  }

  // A link is live, or goes on in a new epoch; what follows is after `cursor`.
  live(link, cursor) {
    this.#link = link;
    this.#full = false;
    if (cursor !== this.since) {
      // What waits here will come again under other cursors; the old ones mean nothing any more.
      for (const entry of this.#queue) entry.cursor = null;
      if (this.#current) this.#current.cursor = null;
      this.#acks.forget();
      // All before it was acked by this device: it may be kept at once.
      this.#saves.add(cursor);
      this.since = cursor;
      this.#over = cursor;
    }
    this.#acks.again();
  }

  broken() {
    this.#link = null;
  }

  // An entry of the inbox has arrived.
  take(frame) {
    // Too many wait: nothing more is taken until the gateway brings it again, on a new link. This one stays for what
    // the app sends.
    const { incomingMax } = this.#options;
    if (this.#full) return;
    if (this.#queue.length >= incomingMax) {
      this.#full = true;
      this.#hooks.fault(new QueueFull(503, `${incomingMax} messages wait to be handled; the gateway keeps the others`));
      return;
    }
    const cursor = frame.cursor ?? null;
    if (cursor !== null) this.since = cursor;
    const name = frame.type === 'message' ? frame.mid : `${frame.type} ${frame.mid} ${frame.at}`;
    if (this.#known(name)) {
      this.duplicates += 1;
      this.#pass(cursor);
    } else {
      this.#queue.push({ type: frame.type, name, value: ENTRIES[frame.type](frame), cursor });
      this.#wake();
    }
    if (this.#options.ack === 'received' && cursor !== null) this.#acks.add(cursor);
  }

  // Hands messages to a function from now on; returns what ends that.
  onMessage(handler) {
    if (this.#iterating) throw new Error('messages are being iterated over: a handler would get none');
    const off = this.handlers.message.add(handler);
    this.#handing ??= this.#hand();
    return () => {
      off();
      this.#wake();
    };
  }

  // All messages, one by one; each is taken over when the next is asked for.
  async *messages() {
    if (this.#iterating || this.handlers.message.size > 0) {
      throw new Error('messages go to one place: a handler or one iteration');
    }
    this.#iterating = true;
    try {
      await this.#handing;
      while (await this.#filled()) {
        const entry = this.#next();
        if (entry.type === 'message') yield entry.value;
        else await this.handlers[entry.type].hand(entry.value);
        this.#handled(entry);
      }
      if (!(this.#ended instanceof Closed)) throw this.#ended;
    } finally {
      this.#iterating = false;
    }
  }

  // The gateway could not take an ack just now.
  ackRefused() {
    this.#acks.again();
  }

  // Writes what was taken over and not yet told.
  flush() {
    this.#acks.flush();
    this.#saves.flush();
  }

  // Resolves when the app's hook has kept all that was given to it.
  saved() {
    return this.#saving ?? Promise.resolve();
  }

  // Nothing comes any more. What waits is still handed over, unless it was the app that wanted to end.
  end(why) {
    this.#ended = why;
    if (why instanceof Closed) {
      for (const entry of this.#queue) this.#seen.delete(entry.name);
      this.#queue = [];
      this.since = this.#over;
    }
    this.#wake();
  }

  async #hand() {
    const { message } = this.handlers;
    while (message.size > 0 && (await this.#filled(() => message.size === 0)) && message.size > 0) {
      const entry = this.#next();
      await this.handlers[entry.type].hand(entry.value);
      this.#handled(entry);
    }
    this.#handing = null;
  }

  // Waits for an entry; false when none will come, or when it is no longer wanted.
  async #filled(unwanted = () => false) {
    while (this.#queue.length === 0) {
      if (this.#ended !== null || unwanted()) return false;
      await new Promise((resolve) => {
        this.#wake = resolve;
      });
    }
    return true;
  }

  #next() {
    this.#current = this.#queue.shift();
    return this.#current;
  }

  #handled(entry) {
    this.#current = null;
    if (entry.cursor !== null) this.#took(entry.cursor);
    if (this.#full && this.#queue.length * 2 <= this.#options.incomingMax) {
      this.#full = false;
      this.#hooks.again();
    }
  }

  #took(cursor) {
    this.#over = cursor;
    if (this.#options.ack === 'handled') this.#acks.add(cursor);
    this.#saves.add(cursor);
  }

  // A re-delivery is taken over when all before it has been.
  #pass(cursor) {
    if (cursor === null) return;
    const before = this.#queue.at(-1) ?? this.#current;
    if (before) before.cursor = cursor;
    else this.#took(cursor);
  }

  #known(name) {
    const known = this.#seen.delete(name);
    this.#seen.add(name);
    if (this.#seen.size > SEEN_MAX) this.#seen.delete(this.#seen.values().next().value);
    return known;
  }

  #ack(cursor) {
    if (this.#link === null) return false;
    if (this.#options.device) this.#link.say(JSON.stringify({ type: 'ack', cursor }));
    return true;
  }

  #save(cursor) {
    if (!this.#options.cursors) return true;
    this.#unsaved = cursor;
    this.#saving ??= this.#saveNewest();
    return true;
  }

  // One after the other: an older cursor must not be written over a newer one. What comes meanwhile replaces what waits.
  async #saveNewest() {
    while (this.#unsaved !== null) {
      const save = async (cursor) => this.#options.cursors.save(cursor);
      const saved = save(this.#unsaved);
      this.#unsaved = null;
      try {
        await within(HOOK_MS, saved, 'cursors.save did not answer');
      } catch (error) {
        this.#hooks.fault(error);
      }
    }
    this.#saving = null;
  }
}

// The newest of many cursors, told now and then.
class Batch {
  #tell;
  #newest = null;
  #waiting = 0;
  #timer = null;

  // `tell(cursor)` returns whether it could.
  constructor(tell) {
    this.#tell = tell;
  }

  add(cursor) {
    this.#newest = cursor;
    this.#waiting += 1;
    if (this.#waiting >= ACK_EVERY) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), ACK_AFTER_MS);
  }

  // The last one may not have arrived: it is told again.
  again() {
    if (this.#newest !== null) this.add(this.#newest);
  }

  forget() {
    this.#newest = null;
    this.#waiting = 0;
  }

  flush() {
    clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#waiting > 0 && this.#tell(this.#newest)) this.#waiting = 0;
  }
}
