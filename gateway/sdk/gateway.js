// The gateway's JavaScript SDK. Made from parts/ by bundle.js; do not edit.

// parts/errors.js

// What can go wrong, as types. `code` is the number of the published protocol, `reason` is for people to read.

class GatewayError extends Error {
  constructor(code, reason, more = {}) {
    super(`${reason} (${code})`);
    this.name = new.target.name;
    this.code = code;
    this.reason = reason;
    if (more.cause !== undefined) this.cause = more.cause;
  }
}

// The gateway looked at the command and said no; nothing was stored.
class Refused extends GatewayError {
  constructor(code, reason, more = {}) {
    super(code, reason, more);
    this.retryAfterMs = more.retryAfterMs ?? null;
    this.extra = more.extra ?? null;
  }
}
class Malformed extends Refused {}
class NoSuchUser extends Refused {}
class Blocked extends Refused {}
class NotAllowed extends Refused {}
class NotFriends extends Refused {}
class Muted extends Refused {}
class CheckRefused extends Refused {}
class WordBlocked extends Refused {}
class RateLimited extends Refused {}
class InboxFull extends Refused {}
class ListFull extends Refused {}
class TooLarge extends Refused {}
class Deactivated extends Refused {}

// Nothing was stored, certainly; it may be tried again.
class Unavailable extends GatewayError {}
// The command went out and nobody knows what became of it.
class OutcomeUnknown extends GatewayError {}
// As many sends or questions wait already as may wait.
class QueueFull extends GatewayError {}
// Nobody answered within `connectS`.
class Unreachable extends GatewayError {
  constructor(reason) {
    super(503, reason);
  }
}

// The client has ended: coming again cannot help without a person or a new token. `closeCode` is the WebSocket's,
// `until` a ban's end in Unix milliseconds (null = until lifted, or no ban).
class Stopped extends GatewayError {
  constructor(closeCode, reason, more = {}) {
    super(more.code ?? closeCode, reason, more);
    this.closeCode = closeCode;
    this.until = more.until ?? null;
  }
}
// The app closed the client, or has not connected it.
class Closed extends Stopped {
  constructor(reason = 'the client is closed') {
    super(1000, reason);
  }
}
class TokenInvalid extends Stopped {}
class TokenExpired extends Stopped {}
class Banned extends Stopped {}
class AccountDeactivated extends Stopped {}
class Replaced extends Stopped {}
class Kicked extends Stopped {}
class RefusedDevice extends Stopped {}
class TooManySessions extends Stopped {}
class OriginRefused extends Stopped {}

const REFUSALS = new Map([
  [400, Malformed],
  [404, NoSuchUser],
  [405, Blocked],
  [407, NotAllowed],
  [20106, Muted],
  [20113, CheckRefused],
  [20604, RateLimited],
  [20607, InboxFull],
  [21501, WordBlocked],
  [25467, ListFull],
  [25469, NotFriends],
  [30016, TooLarge],
  [31029, Deactivated],
  [503, Unavailable],
  [504, OutcomeUnknown],
]);

const STOPS = new Map([
  [4500, TokenInvalid],
  [4501, TokenExpired],
  [4502, Banned],
  [4503, AccountDeactivated],
  [4504, Replaced],
  [4505, Kicked],
  [4506, RefusedDevice],
  [4507, TooManySessions],
  [4508, OriginRefused],
]);

// The close code that says the same as an error code in the body of a handshake refused by an HTTP status.
const CLOSE_OF_CODE = new Map([
  [31004, 4500],
  [31020, 4501],
  [31009, 4502],
  [31029, 4503],
  [31010, 4504],
  [31023, 4506],
  [31024, 4507],
  [403, 4508],
]);

// The typed error of an `error` reply.
function refusalOf(reply) {
  const kind = REFUSALS.get(reply.code) ?? Refused;
  return new kind(reply.code, reply.reason, { retryAfterMs: reply.retry_after_ms, extra: reply.extra });
}

// The typed error of an ending after which one does not come again.
function stopOf(ending) {
  const { code, status, until } = ending;
  const closeCode = status === null ? ending.closeCode : (CLOSE_OF_CODE.get(code) ?? status);
  // A malformed handshake shares the close code of a malformed token.
  const kind = code === 400 ? Stopped : (STOPS.get(closeCode) ?? Stopped);
  return new kind(closeCode, ending.reason || 'the gateway closed the connection', { code, until });
}

// parts/handlers.js

// The app's functions for one kind of event.

class Handlers {
  #handlers = new Set();
  #fault;

  // `fault` is told what a handler throws.
  constructor(fault) {
    this.#fault = fault;
  }

  get size() {
    return this.#handlers.size;
  }

  // Adds a handler; returns the function that takes it off again.
  add(handler) {
    if (typeof handler !== 'function') throw new TypeError('a handler must be a function');
    this.#handlers.add(handler);
    return () => this.#handlers.delete(handler);
  }

  // Calls each and waits for none.
  tell(...values) {
    for (const handler of [...this.#handlers]) this.#call(handler, values);
  }

  // Calls one after the other and waits for each.
  async hand(...values) {
    for (const handler of [...this.#handlers]) await this.#call(handler, values);
  }

  async #call(handler, values) {
    try {
      await handler(...values);
    } catch (error) {
      this.#fault(error);
    }
  }
}

// parts/backoff.js

// When to come again, and whether to.

const BASE_MS = 500;

// Closes that say that the other side and this one do not speak the same protocol: coming again changes nothing.
const PROTOCOL_FAULTS = new Set([1002, 1003, 1007, 1009, 1010]);

// Full jitter: anything from nothing to a bound that doubles, so that those who were cut together do not return together.
function jitter(attempt, capMs) {
  return Math.random() * Math.min(capMs, BASE_MS * 2 ** Math.min(attempt, 20));
}

// HTTP statuses that say: not now.
const LATER_STATUSES = new Set([408, 425, 429]);

// Whether an ending says: do not come again. The ranges of the close codes carry the advice.
function stops(ending) {
  const { status } = ending;
  if (status !== null) return status >= 400 && status < 500 && !LATER_STATUSES.has(status);
  return (ending.closeCode >= 4500 && ending.closeCode <= 4999) || PROTOCOL_FAULTS.has(ending.closeCode);
}

// How fast this connection may speak: as the gateway counts, so that a full queue after an outage is not a flood.
class Pace {
  constructor(ratePerS, burst) {
    this.rate = ratePerS;
    this.burst = burst;
    this.level = burst;
    this.filledAt = performance.now();
  }

  // Takes `cost` units; 0 when they were there, else the milliseconds until they will be, and nothing is taken.
  take(cost) {
    if (this.rate <= 0) return 0;
    const now = performance.now();
    this.level = Math.min(this.burst, this.level + ((now - this.filledAt) * this.rate) / 1000);
    this.filledAt = now;
    if (this.level < cost) return Math.ceil(((cost - this.level) * 1000) / this.rate);
    this.level -= cost;
    return 0;
  }
}

// A promise of `work` that gives up after so many milliseconds.
async function within(milliseconds, work, complaint) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(complaint)), milliseconds);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

// parts/incoming.js

// Messages on their way in: each once, in order, and acked once the app has taken them over.


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

class Incoming {
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

// parts/link.js

// One WebSocket, from its opening to its end.

const SUBPROTOCOL = 'gateway.v1';
const BEARER = 'gateway.bearer.';
const PATH = '/v1/connect';

// The longest wait for the answer to a keepalive's ping.
const PONG_MS = 20_000;

// What may stand in a subprotocol's name (RFC 9110, token); any other access token goes in an `auth` frame.
const SUBPROTOCOL_NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;

// The gateway's address as a WebSocket's: http becomes ws, and a bare host gets the path.
function addressOf(url) {
  const address = new URL(url, globalThis.location?.href);
  if (address.protocol === 'http:' || address.protocol === 'https:') {
    address.protocol = address.protocol.replace('http', 'ws');
  }
  if (address.protocol !== 'ws:' && address.protocol !== 'wss:') throw new TypeError(`not a WebSocket's address: ${url}`);
  if (address.pathname === '/') address.pathname = PATH;
  address.hash = '';
  return address;
}

async function socketClass() {
  if (globalThis.WebSocket) return globalThis.WebSocket;
  // Node before 22 has none.
  return (await import('./node-socket.js')).NodeSocket;
}

// How a connection ended. `closeCode` is the WebSocket's; `code`, `until` and `retryAfterMs` are from the reason;
// `status` is the HTTP status of a refused handshake, where the platform shows it.
function endingOf(closeCode, text, status = null) {
  let said = {};
  try {
    const parsed = JSON.parse(text);
    if (parsed !== null && typeof parsed === 'object') said = parsed;
  } catch {
    said = { reason: text };
  }
  return {
    closeCode,
    status,
    code: said.code ?? closeCode,
    reason: said.reason ?? '',
    until: said.until ?? null,
    retryAfterMs: said.retry_after_ms ?? 0,
  };
}

class Link {
  #socket;
  #hooks;
  #timer = null;
  #pong = null;
  #pongAt = 0;
  #heardAt = 0;
  #heartbeatMs;
  #ended = false;

  // `heartbeatS` null = as the gateway says; `attemptS` from here to the welcome.
  // `hooks` has welcome(frame), frame(frame) and end(ending); end is called once, and nothing after it.
  constructor(socket, authentication, { heartbeatS, attemptS }, hooks) {
    this.#socket = socket;
    this.#hooks = hooks;
    this.#heartbeatMs = heartbeatS === null ? null : heartbeatS * 1000;
    this.live = false;
    this.#timer = setTimeout(() => this.abandon('no welcome in time'), attemptS * 1000);
    socket.onopen = () => authentication && this.say(authentication);
    socket.onmessage = (event) => this.#take(event.data);
    // What an error event means is in the close event that follows it.
    socket.onerror = () => {};
    socket.onclose = (event) => this.#end(endingOf(event.code, event.reason, event.status));
  }

  // Begins to connect. `asked` is device, platform and since, each absent where there is none.
  static async open(address, token, asked, times, hooks) {
    const kind = await socketClass();
    const url = new URL(address);
    for (const [name, value] of Object.entries(asked)) url.searchParams.set(name, value);
    const named = SUBPROTOCOL_NAME.test(token);
    const protocols = named ? [SUBPROTOCOL, BEARER + token] : [SUBPROTOCOL];
    const authentication = named ? null : JSON.stringify({ type: 'auth', token, ...asked });
    return new Link(new kind(url.href, protocols), authentication, times, hooks);
  }

  // Writes one frame; a link that has just ended takes it without a word, its end tells.
  say(text) {
    if (!this.#ended && this.#socket.readyState === 1) this.#socket.send(text);
  }

  // Whether the other side is still there: anything heard within the time will do, else the link has ended.
  check(milliseconds) {
    const asked = performance.now();
    // One question at a time, the one that ends first: a later one must not put it off.
    if (!this.live || (this.#pong !== null && this.#pongAt <= asked + milliseconds)) return;
    this.say('{"type":"ping"}');
    clearTimeout(this.#pong);
    this.#pongAt = asked + milliseconds;
    this.#pong = setTimeout(() => {
      this.#pong = null;
      if (this.#heardAt < asked) this.abandon('no answer to a ping');
    }, milliseconds);
  }

  // Ends it from this side, without waiting for the other: a dead peer would keep a closing socket for minutes.
  abandon(reason) {
    this.#end(endingOf(1006, reason), 4000);
  }

  // Says goodbye.
  close() {
    this.#end(endingOf(1000, 'closed by the app'), 1000);
  }

  #take(text) {
    if (this.#ended) return;
    this.#heardAt = performance.now();
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      this.abandon('a frame that is not JSON');
      return;
    }
    if (frame.type === 'welcome' && !this.live) this.#welcome(frame);
    else this.#hooks.frame(frame);
  }

  #welcome(frame) {
    this.live = true;
    clearTimeout(this.#timer);
    this.#heartbeatMs ??= frame.heartbeat_s * 1000;
    this.#timer = setInterval(() => this.#beat(), this.#heartbeatMs);
    this.#hooks.welcome(frame);
  }

  #beat() {
    // A page that was asleep has not heard anything for long: it asks first.
    if (performance.now() - this.#heardAt >= this.#heartbeatMs * 0.9) this.check(Math.min(this.#heartbeatMs, PONG_MS));
  }

  #end(ending, closeCode = null) {
    if (this.#ended) return;
    this.#ended = true;
    this.live = false;
    clearTimeout(this.#timer);
    clearTimeout(this.#pong);
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    if (closeCode !== null) {
      try {
        socket.close(closeCode);
      } catch {
        // A socket that never opened may refuse; it is let go either way.
      }
    }
    this.#hooks.end(ending);
  }
}

// parts/presence.js

// Who is online, of the users that are watched.


const USERS_A_CALL = 200;
// Tries to watch again what was watched before a break, and between two of them; the next link tries anew.
const AGAIN_MAX = 30;
const AGAIN_MS = 1_000;

// The pieces of a list that fit into one command each.
function pieces(users, size = USERS_A_CALL) {
  const all = typeof users === 'string' ? [users] : [...users];
  const cut = [];
  for (let at = 0; at < all.length; at += size) cut.push(all.slice(at, at + size));
  return cut;
}

class Watching {
  #ask;
  #fault;
  #known = new Map();
  #watched = new Set();
  #round = null;

  constructor(ask, fault) {
    this.#ask = ask;
    this.#fault = fault;
    this.handlers = new Handlers(fault);
  }

  async watch(users) {
    const present = new Map();
    for (const piece of pieces(users)) {
      // Before the answer: a change may come right behind it, in the same turn of the loop.
      const fresh = piece.filter((user) => !this.#watched.has(user));
      for (const user of fresh) this.#watched.add(user);
      let reply;
      try {
        reply = await this.#ask('watch', { users: piece });
      } catch (error) {
        for (const user of fresh) {
          this.#watched.delete(user);
          this.#known.delete(user);
        }
        throw error;
      }
      for (const state of reply.users) {
        this.#learn(state, true);
        present.set(state.user, this.#known.get(state.user));
      }
    }
    return present;
  }

  async unwatch(users) {
    for (const piece of pieces(users)) {
      for (const user of piece) {
        this.#watched.delete(user);
        this.#known.delete(user);
      }
      await this.#ask('unwatch', { users: piece });
    }
  }

  // What is known of a watched user, null where nothing is.
  presence(user) {
    return this.#known.get(user) ?? null;
  }

  // A new session watches nobody yet; `recovered` = the store still counts versions as it did.
  live(recovered) {
    if (!recovered) for (const state of this.#known.values()) state.version = -1;
    if (this.#watched.size > 0) this.#rewatch([...this.#watched]);
  }

  async #rewatch(users) {
    const round = (this.#round = {});
    for (const piece of pieces(users)) {
      for (let tried = 0; tried < AGAIN_MAX; tried += 1) {
        if (tried > 0) await pause(AGAIN_MS * Math.min(tried, 10));
        const wanted = piece.filter((user) => this.#watched.has(user));
        if (this.#round !== round || wanted.length === 0) break;
        try {
          const reply = await this.#ask('watch', { users: wanted });
          for (const state of reply.users) this.#learn(state);
          break;
        } catch (error) {
          if (error instanceof Stopped) return;
          this.#fault(error);
        }
      }
    }
  }

  // A `presence` push.
  pushed(frame) {
    if (this.#watched.has(frame.user)) this.#learn(frame);
  }

  #learn({ user, online, last_seen: lastSeen, platforms, version }, quiet = false) {
    const known = this.#known.get(user);
    // The same version may say something else: who blocks this user is told as offline from then on.
    if (known && version < known.version) return;
    const state = { user, online, lastSeen, platforms, version };
    this.#known.set(user, state);
    const same = known && known.online === online && String(known.platforms) === String(platforms);
    if (!quiet && !same) this.handlers.tell({ ...state });
  }
}

// Nothing that a program in Node would stay alive for.
function pause(milliseconds) {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds).unref?.();
  });
}

// parts/lists.js

// The user's own lists: blocklist, allowlist, friends, sessions.


const PAGE = 1_000;
// A page of friends costs by its length, to the gateway's count.
const FRIENDS_PAGE = 100;

async function* pages(ask, type, limit) {
  let page;
  do {
    const reply = await ask(type, { page, limit });
    yield* reply.users;
    page = reply.page;
  } while (page !== undefined);
}

async function checked(ask, type, users) {
  const found = new Map();
  for (const piece of pieces(users)) {
    const reply = await ask(type, { users: piece });
    for (const [user, on] of Object.entries(reply.users)) found.set(user, on);
  }
  return found;
}

class UserList {
  #ask;
  #noun;

  constructor(ask, noun) {
    this.#ask = ask;
    this.#noun = noun;
  }

  async add(users) {
    for (const piece of pieces(users)) await this.#ask(`${this.#noun}.add`, { users: piece });
  }

  async remove(users) {
    for (const piece of pieces(users)) await this.#ask(`${this.#noun}.remove`, { users: piece });
  }

  list() {
    return pages(this.#ask, `${this.#noun}.list`, PAGE);
  }
}

class Blocklist extends UserList {
  #ask;

  constructor(ask) {
    super(ask, 'blocklist');
    this.#ask = ask;
  }

  check(users) {
    return checked(this.#ask, 'blocklist.check', users);
  }
}

class Allowlist extends UserList {
  #ask;

  constructor(ask) {
    super(ask, 'allowlist');
    this.#ask = ask;
  }

  async enable() {
    await this.#ask('allowlist.enable');
  }

  async disable() {
    await this.#ask('allowlist.disable');
  }

  // Whether only allowlisted senders reach this user.
  async status() {
    return (await this.#ask('allowlist.status')).enabled;
  }
}

class Friends {
  #ask;

  constructor(ask) {
    this.#ask = ask;
  }

  async *list() {
    for await (const { user, name, alias, added_at: addedAt } of pages(this.#ask, 'friends.list', FRIENDS_PAGE)) {
      yield { user, name, alias, addedAt };
    }
  }

  check(users) {
    return checked(this.#ask, 'friends.check', users);
  }
}

class Sessions {
  #ask;

  constructor(ask) {
    this.#ask = ask;
  }

  async *list() {
    const reply = await this.#ask('sessions.list');
    for (const { connected_at: connectedAt, ...session } of reply.sessions) yield { ...session, connectedAt };
  }

  async drop(session) {
    await this.#ask('sessions.drop', { session });
  }
}

// parts/outgoing.js

// Messages on their way out: a bounded queue, one lane a recipient, and repeats until the outcome is known.


const REPEAT_CAP_MS = 5_000;
// A repeat is ten times as dear as a first send, to the gateway's count.
const REPEAT_COST = 10;
// With less time than this left a message is not written any more: no answer could come.
const LAST_MS = 10;

// A UUIDv7: its first 48 bits are the time in milliseconds. It must be unique, not secret.
function uuid7() {
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

class Outgoing {
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

// parts/requests.js

// Commands that are answered by `ok`: asked again on the next link when one breaks, because each may be repeated.


const ASK_AGAIN_CAP_MS = 2_000;

class Requests {
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

// parts/page.js

// What the browser tells a page about itself; where there is no page, nothing ever happens.

class Page {
  #heard = [];

  // `hooks`: offline(), online(), visible(), and leaving() when the page may never run again.
  constructor(hooks) {
    const { document } = globalThis;
    this.#on(globalThis, 'offline', hooks.offline);
    this.#on(globalThis, 'online', hooks.online);
    // Back from the browser's own cache of pages, or thawed.
    this.#on(globalThis, 'pageshow', (event) => event.persisted && hooks.visible());
    this.#on(document, 'resume', hooks.visible);
    this.#on(globalThis, 'pagehide', hooks.leaving);
    this.#on(document, 'visibilitychange', () => {
      if (document.visibilityState === 'visible') hooks.visible();
      else hooks.leaving();
    });
  }

  get offline() {
    return globalThis.navigator?.onLine === false;
  }

  close() {
    for (const [target, event, hook] of this.#heard) target.removeEventListener(event, hook);
    this.#heard = [];
  }

  #on(target, event, hook) {
    if (!target?.addEventListener) return;
    target.addEventListener(event, hook);
    this.#heard.push([target, event, hook]);
  }
}

// parts/upkeep.js

// Keeps a connection: one link after the other, until it ends for good.


const RECONNECT_CAP_MS = 30_000;
// A connection that held for so long makes the next break the first again.
const HELD_MS = 5_000;
const TOKEN_MS = 30_000;
// A page that was offline or hidden asks whether its link lives, for so long.
const CHECK_MS = 2_000;
// The longest delay that a timer takes.
const TIMER_MAX_MS = 2 ** 31 - 1;

class Upkeep {
  #peer;
  #owner;
  #page = null;
  // The present life, null when there is none; what an earlier one still waits for comes back and sees it.
  #life = null;
  #stopped;
  #failures = 0;
  #notBefore = 0;
  #mayNotBefore = 0;
  #liveAt = null;
  #expired = false;
  #wake = () => {};

  // `peer`: address, token, device, platform, heartbeatS, attemptS, connectS.
  // `owner`: since(), welcomed(link, frame), take(frame), broken(), moved(state, why), leaving(), ended(why),
  // fault(error).
  constructor(peer, owner) {
    this.#peer = peer;
    this.#owner = owner;
    this.#stopped = resolvers();
    this.state = 'waiting';
    this.link = null;
  }

  // Begins, where it has not or has ended; resolves at the first welcome.
  connect() {
    if (this.#life === null) this.#begin();
    return this.#life.welcomed.promise;
  }

  // Resolves with why it has ended, null where the app wanted it so.
  stopped() {
    return this.#stopped.promise;
  }

  // Ends for good.
  end(why) {
    const life = this.#life;
    if (life === null) return;
    this.#life = null;
    clearTimeout(life.timer);
    this.#page.close();
    this.link?.close();
    this.#owner.ended(why);
    this.#move('stopped', why.reason);
    this.#wake();
    life.welcomed.reject(why);
    this.#stopped.resolve(why instanceof Closed ? null : why);
  }

  // Ends the present link; the next one comes without counting a failure.
  again(reason) {
    this.#failures = 0;
    this.link?.abandon(reason);
  }

  // The token to use now.
  async token() {
    const { token } = this.#peer;
    if (typeof token === 'string') return token;
    const given = await within(TOKEN_MS, token(), 'the token function did not answer');
    if (typeof given !== 'string') throw new TypeError('the token function must return a string');
    return given;
  }

  #begin() {
    if (this.state === 'stopped') this.#stopped = resolvers();
    const life = { welcomed: resolvers(), timer: undefined };
    this.#life = life;
    this.#expired = false;
    this.#failures = 0;
    // Whoever asks hears of it; that nobody does is no fault.
    life.welcomed.promise.catch(() => {});
    const { connectS } = this.#peer;
    if (connectS !== null && connectS * 1000 <= TIMER_MAX_MS) {
      const late = () => this.end(new Unreachable(`nobody let this client in within ${connectS} s: ${life.failure}`));
      life.timer = setTimeout(late, connectS * 1000);
    }
    this.#page = new Page({
      offline: () => this.link?.abandon('offline'),
      online: () => this.#nudge(),
      visible: () => this.#nudge(),
      leaving: () => this.#owner.leaving(),
    });
    this.#run(life);
  }

  async #run(life) {
    while (this.#life === life) {
      this.#move('connecting', '');
      const ending = await this.#attempt(life);
      if (this.#life !== life) return;
      life.failure = ending.reason || `closed with ${ending.closeCode}`;
      this.#judge(ending);
      if (this.#life !== life) return;
      this.#move('waiting', life.failure);
      await this.#turn(life);
    }
  }

  // One link, from the token to its end.
  async #attempt(life) {
    const { address, device, platform, heartbeatS, attemptS } = this.#peer;
    try {
      const token = await this.token();
      const since = await this.#owner.since();
      if (this.#life !== life) return null;
      const asked = { platform };
      if (device !== null) asked.device = device;
      if (since !== null) asked.since = since;
      return await new Promise((resolve, reject) => {
        let own = null;
        const hooks = {
          welcome: (frame) => this.#welcome(life, frame),
          frame: (frame) => this.#owner.take(frame),
          end: (ending) => {
            if (this.link === own) this.#broken();
            resolve(ending);
          },
        };
        Link.open(address, token, asked, { heartbeatS, attemptS }, hooks).then((link) => {
          own = link;
          if (this.#life === life) this.link = link;
          else link.close();
        }, reject);
      });
    } catch (error) {
      this.#owner.fault(error);
      return { closeCode: 1006, status: null, reason: String(error?.message ?? error), retryAfterMs: 0 };
    }
  }

  #welcome(life, frame) {
    clearTimeout(life.timer);
    this.#liveAt = performance.now();
    this.#expired = false;
    this.state = 'live';
    this.#owner.welcomed(this.link, frame);
    life.welcomed.resolve();
  }

  #broken() {
    this.link = null;
    this.#owner.broken();
    if (this.#liveAt !== null && performance.now() - this.#liveAt >= HELD_MS) this.#failures = 0;
    this.#liveAt = null;
  }

  // What an ending says about coming again.
  #judge(ending) {
    const now = performance.now();
    this.#mayNotBefore = now + ending.retryAfterMs;
    this.#notBefore = Math.max(this.#mayNotBefore, now + jitter(this.#failures, RECONNECT_CAP_MS));
    this.#failures += 1;
    if (!stops(ending)) return;
    const why = stopOf(ending);
    // A new token is what an expired one needs; one that is expired as well says that there is none.
    const again = why instanceof TokenExpired && typeof this.#peer.token === 'function' && !this.#expired;
    if (again) this.#expired = true;
    else this.end(why);
  }

  // Waits until it may try again.
  async #turn(life) {
    while (this.#life === life) {
      const wait = this.#notBefore - performance.now();
      const { offline } = this.#page;
      if (!offline && wait <= 0) return;
      let timer;
      await new Promise((resolve) => {
        this.#wake = resolve;
        if (!offline) timer = setTimeout(resolve, Math.min(wait, TIMER_MAX_MS));
      });
      clearTimeout(timer);
    }
  }

  // The network is back, or somebody looks at the page again.
  #nudge() {
    this.#failures = 0;
    this.#notBefore = Math.min(this.#notBefore, this.#mayNotBefore);
    this.link?.check(CHECK_MS);
    this.#wake();
  }

  #move(state, why) {
    if (this.state === state) return;
    this.state = state;
    this.#owner.moved(state, why);
  }
}

// A promise and its two ends.
function resolvers() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

// parts/users.js

// Names and avatars: asked of a provider, kept for a while.


const INFOS_A_CALL = 20;
const KEPT_MAX = 1_000;
const LIFETIME_MS = 600_000;
// Users that may wait for an answer; and how long a provider may take.
const WAITING_MAX = 10_000;
const FETCH_MS = 15_000;
// Somebody unknown may register at any time.
const UNKNOWN_LIFETIME_MS = 30_000;

class Users {
  #gateway;
  #provider;
  #kept = new Map();
  #asking = new Map();
  #batch = null;

  constructor(ask, fault) {
    this.#gateway = async (users) => {
      const reply = await ask('user.get', { users });
      return reply.users.map(({ avatar_url: avatarUrl, ...info }) => ({ ...info, avatarUrl }));
    };
    this.#provider = this.#gateway;
    this.handlers = new Handlers(fault);
  }

  // `provider` is an async function from at most 20 ids to a list of `{user, name, avatarUrl, …}`, unknown ones left
  // out; null = the gateway again. What the one before is still asked for is not kept.
  setProvider(provider) {
    this.#provider = provider ?? this.#gateway;
    this.#kept.clear();
  }

  onChange(handler) {
    return this.handlers.add(handler);
  }

  // What is known without asking: undefined = nothing, null = no such user.
  cached(user) {
    const entry = this.#kept.get(user);
    if (!entry || entry.until <= Date.now()) return undefined;
    this.#kept.delete(user);
    this.#kept.set(user, entry);
    return entry.info;
  }

  // One user's info, null where there is no such user.
  async get(user) {
    const known = this.cached(user);
    return known === undefined ? this.refresh(user) : known;
  }

  // Many at once, as a Map; those unknown are null.
  async getMany(users) {
    const wanted = [...new Set(users)];
    const infos = await Promise.all(wanted.map((user) => this.get(user)));
    return new Map(wanted.map((user, at) => [user, infos[at]]));
  }

  // Asks anew, whatever is kept; those who ask for one user at the same time share an answer.
  async refresh(user) {
    const asked = this.#asking.get(user);
    if (asked) return asked;
    if (this.#asking.size >= WAITING_MAX) throw new QueueFull(503, `${WAITING_MAX} users are asked for already`);
    if (!this.#batch || this.#batch.users.length >= INFOS_A_CALL) this.#begin();
    const { users, answer } = this.#batch;
    users.push(user);
    const provider = this.#provider;
    const info = answer.then((found) => this.#learn(user, found.get(user) ?? null, provider === this.#provider));
    this.#asking.set(user, info);
    const done = () => this.#asking.delete(user);
    info.then(done, done);
    return info;
  }

  // All that is asked for in this turn goes in one question.
  #begin() {
    const batch = { users: [] };
    batch.answer = Promise.resolve().then(async () => {
      if (this.#batch === batch) this.#batch = null;
      const infos = await within(FETCH_MS, this.#provider([...batch.users]), 'the provider of user info did not answer');
      return new Map(infos.map((info) => [info.user, info]));
    });
    this.#batch = batch;
  }

  #learn(user, info, current) {
    if (!current) return info;
    const before = this.#kept.get(user);
    this.#kept.delete(user);
    this.#kept.set(user, { info, until: Date.now() + (info ? LIFETIME_MS : UNKNOWN_LIFETIME_MS) });
    if (this.#kept.size > KEPT_MAX) this.#kept.delete(this.#kept.keys().next().value);
    if (!before || JSON.stringify(before.info) !== JSON.stringify(info)) this.handlers.tell(user, info);
    return info;
  }
}

// parts/client.js

// The face of the SDK: one device of one user, connected for as long as the app wants it.


const REFRESH_TRIES = 5;
const REFRESH_PAUSE_MS = 3_000;
// A gateway recognises a repeat for ten minutes.
const SEND_S_MAX = 540;

const DEFAULTS = {
  device: null,
  platform: typeof document === 'undefined' ? 'other' : 'web',
  cursors: null,
  ack: 'handled',
  heartbeatS: null,
  connectS: 30,
  attemptS: 10,
  answerS: 10,
  sendS: 300,
  queueMax: 1_000,
  inFlight: 1,
  incomingMax: 10_000,
};

function optionsOf({ token, ...given }) {
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(DEFAULTS, name)) throw new TypeError(`unknown option: ${name}`);
  }
  if (typeof token !== 'string' && typeof token !== 'function') throw new TypeError('token: a string or a function');
  const options = { ...DEFAULTS, ...given, token };
  if (!['handled', 'received'].includes(options.ack)) throw new TypeError('ack: "handled" or "received"');
  if (!(options.sendS > 0 && options.sendS <= SEND_S_MAX)) throw new RangeError(`sendS: at most ${SEND_S_MAX}`);
  return options;
}

class Client {
  #upkeep;
  #incoming;
  #outgoing;
  #requests;
  #watching;
  #refreshing = null;
  // The link whose token is being renewed.
  #renewed = null;
  #onState;
  #onSession;
  #onResumed;
  #onError;

  constructor(url, given = {}) {
    const options = optionsOf(given);
    const fault = (error) => this.#fault(error);
    const ask = (type, fields) => this.ask(type, fields);
    this.#onError = new Handlers((error) => console.error(error));
    this.#onState = new Handlers(fault);
    this.#onSession = new Handlers(fault);
    this.#onResumed = new Handlers(fault);
    const again = () => this.#upkeep.again('messages that had to wait at the gateway are fetched');
    this.#incoming = new Incoming(options, { fault, again });
    this.#outgoing = new Outgoing(options);
    this.#requests = new Requests(options);
    this.#watching = new Watching(ask, fault);
    this.#upkeep = new Upkeep(
      { address: addressOf(url), ...options },
      {
        since: () => this.#incoming.load(),
        welcomed: (link, frame) => this.#welcomed(link, frame),
        take: (frame) => this.#take(frame),
        broken: () => this.#broken(),
        moved: (state, why) => this.#onState.tell(state, why),
        leaving: () => this.#incoming.flush(),
        ended: (why) => this.#ended(why),
        fault,
      },
    );
    this.session = '';
    this.user = '';
    this.device = options.device;
    this.node = '';
    this.blocklist = new Blocklist(ask);
    this.allowlist = new Allowlist(ask);
    this.friends = new Friends(ask);
    this.sessions = new Sessions(ask);
    this.users = new Users(ask, fault);
  }

  // 'connecting', 'live', 'waiting' (for a network, or for its turn to try again) or 'stopped' (for good).
  get state() {
    return this.#upkeep.state;
  }

  // Messages that came again and were not handed over.
  get duplicates() {
    return this.#incoming.duplicates;
  }

  // Resolves at the first welcome; from then on the connection is kept up. Rejects with a Stopped at once, with
  // Unreachable after `connectS`. A client that has stopped starts again.
  async connect() {
    if (this.#upkeep.state === 'waiting' || this.#upkeep.state === 'stopped') {
      this.#outgoing.start();
      this.#requests.start();
      this.#incoming.start();
    }
    await this.#upkeep.connect();
  }

  // Says goodbye. What waits to be sent fails with Closed; what waits to be handled comes again at the next connect.
  async close() {
    this.#incoming.flush();
    this.#upkeep.end(new Closed());
    await this.#incoming.saved();
  }

  // Resolves when the client has ended: with the Stopped that says why, or null after `close`.
  stopped() {
    return this.#upkeep.stopped();
  }

  onState(handler) {
    return this.#onState.add(handler);
  }

  onSession(handler) {
    return this.#onSession.add(handler);
  }

  onResumed(handler) {
    return this.#onResumed.add(handler);
  }

  onError(handler) {
    return this.#onError.add(handler);
  }

  onPresence(handler) {
    return this.#watching.handlers.add(handler);
  }

  onMessage(handler) {
    return this.#incoming.onMessage(handler);
  }

  onRecalled(handler) {
    return this.#incoming.handlers.recalled.add(handler);
  }

  onUpdated(handler) {
    return this.#incoming.handlers.updated.add(handler);
  }

  // All messages, one by one; each is taken over when the next is asked for.
  [Symbol.asyncIterator]() {
    return this.#incoming.messages();
  }

  // Resolves with `{mid, sentAt, online}` once the message is stored; rejects with a typed error.
  async send(to, body, options = {}) {
    return this.#outgoing.send(to, body, options);
  }

  // Any command of the protocol that is answered by `ok`; its reply, as it came.
  async ask(type, fields = {}) {
    return this.#requests.ask(type, fields);
  }

  // The gateway's time, in Unix milliseconds.
  async ping() {
    return (await this.ask('ping')).server_time;
  }

  // Watches users until `unwatch`, over every break; resolves with a Map of their present state.
  async watch(users) {
    return this.#watching.watch(users);
  }

  async unwatch(users) {
    return this.#watching.unwatch(users);
  }

  // What is known of a watched user, null where nothing is.
  presence(user) {
    return this.#watching.presence(user);
  }

  #welcomed(link, frame) {
    this.session = frame.session;
    this.user = frame.user;
    this.device = frame.device;
    this.node = frame.node;
    this.#requests.live(link);
    this.#outgoing.live(link, frame.limits);
    this.#onState.tell('live', '');
    this.#resumed(link, frame);
  }

  // The session is live, or lives on in a new epoch: the replay starts after `cursor`.
  #resumed(link, { cursor, recovered }) {
    this.#incoming.live(link, cursor);
    this.#watching.live(recovered);
    this.#onResumed.tell(recovered);
  }

  #take(frame) {
    switch (frame.type) {
      case 'message':
      case 'recalled':
      case 'updated':
        this.#incoming.take(frame);
        break;
      case 'sent':
      case 'ok':
      case 'error':
      case 'pong':
        this.#answered(frame);
        break;
      case 'presence':
        this.#watching.pushed(frame);
        break;
      case 'session':
        this.#onSession.tell(sessionOf(frame));
        break;
      case 'resync':
        this.#resumed(this.#upkeep.link, frame);
        break;
      case 'token_expiring':
        // The gateway says it of a fresh token as well that is a short one: that ends when it ends.
        if (this.#renewed !== this.#upkeep.link) this.#refresh(REFRESH_TRIES);
        break;
      // `going_away` needs nothing: the close that follows says when to come again. Others are of newer gateways.
    }
  }

  #answered(frame) {
    if (frame.id?.startsWith('s')) this.#outgoing.answered(frame);
    else if (frame.id) this.#requests.answered(frame);
    // Of what has no id only an ack can be refused, and for now.
    else if (frame.code === 503 || frame.code === 20604) this.#incoming.ackRefused();
  }

  async #refresh(tries) {
    const { link } = this.#upkeep;
    this.#renewed = link;
    try {
      const token = await this.#upkeep.token();
      if (this.#upkeep.link === link) await this.#requests.ask('refresh', { token });
    } catch (error) {
      if (this.#upkeep.link !== link) return;
      this.#fault(error);
      if (tries > 1) {
        this.#refreshing = setTimeout(() => this.#refresh(tries - 1), REFRESH_PAUSE_MS);
        return;
      }
    }
    if (this.#renewed === link) this.#renewed = null;
  }

  #broken() {
    clearTimeout(this.#refreshing);
    this.#incoming.broken();
    this.#outgoing.broken();
    this.#requests.broken();
  }

  #ended(why) {
    this.#outgoing.stop(why);
    this.#requests.stop(why);
    this.#incoming.end(why);
  }

  #fault(error) {
    if (this.#onError.size > 0) this.#onError.tell(error);
    else console.error(error);
  }
}

function sessionOf({ event, session, device, platform }) {
  return { event, session, device, platform };
}

export {
  Client,
  GatewayError,
  Refused,
  Malformed,
  NoSuchUser,
  Blocked,
  NotAllowed,
  NotFriends,
  Muted,
  CheckRefused,
  WordBlocked,
  RateLimited,
  InboxFull,
  ListFull,
  TooLarge,
  Deactivated,
  Unavailable,
  OutcomeUnknown,
  QueueFull,
  Unreachable,
  Stopped,
  Closed,
  TokenInvalid,
  TokenExpired,
  Banned,
  AccountDeactivated,
  Replaced,
  Kicked,
  RefusedDevice,
  TooManySessions,
  OriginRefused,
};
