// The face of the SDK: one user's connection, kept for as long as the app wants it.

import { Stopped, TokenExpired, Unreachable, stopOf } from './errors.js';
import { jitter, stops, within } from './backoff.js';
import { Handlers } from './handlers.js';
import { Incoming } from './incoming.js';
import { Link, addressOf } from './link.js';
import { Allowlist, Blocklist, Friends, Sessions } from './lists.js';
import { Outgoing } from './outgoing.js';
import { Page } from './page.js';
import { Watching } from './presence.js';
import { Requests } from './requests.js';
import { Users } from './users.js';

const RECONNECT_CAP_MS = 30_000;
// A connection that held for so long makes the next break the first again.
const HELD_MS = 5_000;
const TOKEN_MS = 30_000;
// A page that was offline or hidden asks whether its link lives, for so long.
const CHECK_MS = 2_000;
const REFRESH_TRIES = 3;
const REFRESH_PAUSE_MS = 3_000;
// The longest delay that a timer takes.
const TIMER_MAX_MS = 2 ** 31 - 1;

const DEFAULTS = {
  device: null,
  platform: typeof document === 'undefined' ? 'other' : 'web',
  ack: 'handled',
  cursors: null,
  connectS: 30,
  heartbeatS: null,
  answerS: 10,
  sendS: 300,
  queueMax: 1_000,
  incomingMax: 10_000,
  inFlight: 1,
};

export class Client {
  #address;
  #token;
  #options;
  #state = 'waiting';
  #stop;
  #stopResolve;
  #stopError = undefined;
  #running = null;
  #first = null;
  #link = null;
  #page = null;
  #wake = null;
  #failures = 0;
  #notBefore = 0;
  #mayNotBefore = 0;
  #liveAt = null;
  #expired = false;
  #overflowed = false;
  #refreshing = null;
  #incoming;
  #outgoing;
  #requests;
  #watching;
  #onState;
  #onSession;
  #onResumed;
  #onError;

  constructor(url, options = {}) {
    const { token, ...rest } = options;
    for (const name of Object.keys(rest)) if (!(name in DEFAULTS)) throw new TypeError(`unknown option: ${name}`);
    if (typeof token !== 'string' && typeof token !== 'function') throw new TypeError('token: a string or a function');
    this.#address = addressOf(url);
    this.#token = token;
    this.#options = { ...DEFAULTS, ...rest };
    if (!['handled', 'received'].includes(this.#options.ack)) throw new TypeError('ack: "handled" or "received"');
    const fault = (error) => this.#fault(error);
    const ask = (type, fields) => this.#requests.ask(type, fields);
    this.#onError = new Handlers((error) => console.error(error));
    this.#onState = new Handlers(fault);
    this.#onSession = new Handlers(fault);
    this.#onResumed = new Handlers(fault);
    this.#incoming = new Incoming(this.#options, { fault, full: () => this.#overflow() });
    this.#outgoing = new Outgoing(this.#options);
    this.#requests = new Requests(this.#options);
    this.#watching = new Watching(ask, fault);
    this.#stop = new Promise((resolve) => {
      this.#stopResolve = resolve;
    });
    this.session = null;
    this.user = null;
    this.device = this.#options.device;
    this.node = null;
    this.blocklist = new Blocklist(ask);
    this.allowlist = new Allowlist(ask);
    this.friends = new Friends(ask);
    this.sessions = new Sessions(ask);
    this.users = new Users(ask, fault);
  }

  // 'connecting', 'live', 'waiting' (for a network, or for its turn to try again) or 'stopped' (for good).
  get state() {
    return this.#state;
  }

  // How many re-deliveries were recognised and not handed over.
  get duplicates() {
    return this.#incoming.duplicates;
  }

  // Resolves at the first welcome. Rejects with a Stopped at once, with Unreachable after `connectS`.
  connect() {
    if (!this.#first) {
      this.#first = resolvers();
      this.#page = new Page({
        offline: () => this.#link?.abandon('offline'),
        online: () => this.#nudge(),
        visible: () => this.#nudge(),
      });
      this.#running = this.#run();
    }
    return this.#first.promise;
  }

  // Says goodbye; what still waits to be sent fails with Stopped.
  async close() {
    if (this.#stopError === undefined) {
      await this.#incoming.flush();
      this.#end(null);
    }
    await this.#running;
  }

  // Resolves when the connection has ended for good: with the Stopped that says why, or null after `close`.
  stopped() {
    return this.#stop;
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

  [Symbol.asyncIterator]() {
    return this.#incoming.messages();
  }

  // Resolves with `{mid, sentAt, online}` once the message is stored; rejects with a typed error.
  async send(to, body, options = {}) {
    return this.#outgoing.send(to, body, options);
  }

  async watch(users) {
    return this.#watching.watch(users);
  }

  async unwatch(users) {
    return this.#watching.unwatch(users);
  }

  presence(user) {
    return this.#watching.presence(user);
  }

  // The gateway's time, in Unix milliseconds.
  async ping() {
    return (await this.#requests.ask('ping')).server_time;
  }

  // The life of the client: one link after the other.
  async #run() {
    const deadline = this.#options.connectS * 1000;
    const timer = deadline <= TIMER_MAX_MS ? setTimeout(() => this.#unreachable(), deadline) : undefined;
    this.#first.promise.then(
      () => clearTimeout(timer),
      () => clearTimeout(timer),
    );
    try {
      await this.#incoming.load();
    } catch (error) {
      this.#fault(error);
    }
    while (this.#stopError === undefined) {
      this.#become('connecting');
      const ending = await this.#attempt();
      if (this.#stopError !== undefined) break;
      this.#judge(ending);
      if (this.#stopError !== undefined) break;
      this.#become('waiting');
      await this.#turn();
    }
  }

  // One link, from the token to its end.
  async #attempt() {
    let token;
    try {
      token = await this.#freshToken();
    } catch (error) {
      this.#fault(error);
      return { closeCode: 1006, status: null, reason: `no token: ${error.message}`, retryAfterMs: 0 };
    }
    if (this.#stopError !== undefined) return null;
    const { device, platform, heartbeatS } = this.#options;
    const asked = { platform };
    if (device !== null) asked.device = device;
    if (this.#incoming.since !== null) asked.since = this.#incoming.since;
    return new Promise((resolve, reject) => {
      const hooks = {
        welcome: (frame) => this.#welcome(frame),
        frame: (frame) => this.#take(frame),
        end: (ending) => resolve(this.#broken(ending)),
      };
      Link.open(this.#address, token, asked, heartbeatS, hooks).then((link) => {
        this.#link = link;
        if (this.#stopError !== undefined) link.close();
      }, reject);
    }).catch((error) => ({ closeCode: 1006, status: null, reason: error.message, retryAfterMs: 0 }));
  }

  async #freshToken() {
    if (typeof this.#token === 'string') return this.#token;
    const token = await within(TOKEN_MS, this.#token(), 'the token function did not answer');
    if (typeof token !== 'string') throw new TypeError('the token function must return a string');
    return token;
  }

  #welcome(frame) {
    this.session = frame.session;
    this.user = frame.user;
    this.device = frame.device;
    this.node = frame.node;
    this.#liveAt = performance.now();
    this.#expired = false;
    this.#incoming.live(this.#link, frame.cursor);
    this.#become('live');
    this.#first.resolve();
    this.#resumed(frame.recovered);
    this.#requests.live(this.#link);
    this.#outgoing.live(this.#link, frame.limits);
  }

  #resumed(recovered) {
    this.#onResumed.tell(recovered);
    this.#watching.live(recovered);
  }

  #broken(ending) {
    this.#link = null;
    this.#incoming.broken();
    this.#outgoing.broken();
    this.#requests.broken();
    clearTimeout(this.#refreshing);
    this.#refreshing = null;
    if (this.#liveAt !== null && performance.now() - this.#liveAt >= HELD_MS) this.#failures = 0;
    this.#liveAt = null;
    return ending;
  }

  // What an ending says about coming again.
  #judge(ending) {
    this.#notBefore = performance.now() + Math.max(ending.retryAfterMs, jitter(this.#failures, RECONNECT_CAP_MS));
    this.#mayNotBefore = performance.now() + ending.retryAfterMs;
    this.#failures += 1;
    if (!stops(ending)) return;
    const error = stopOf(ending);
    // A new token is what an expired one needs; one that is expired as well says that there is none.
    const again = error instanceof TokenExpired && typeof this.#token === 'function' && !this.#expired;
    if (again) this.#expired = true;
    else this.#end(error);
  }

  // Waits until it may try again.
  async #turn() {
    if (this.#overflowed) {
      this.#overflowed = false;
      this.#notBefore = 0;
      await this.#incoming.room();
    }
    while (this.#stopError === undefined) {
      const wait = this.#notBefore - performance.now();
      if (!this.#page.offline && wait <= 0) return;
      let timer;
      await new Promise((resolve) => {
        this.#wake = resolve;
        if (!this.#page.offline) timer = setTimeout(resolve, Math.min(wait, TIMER_MAX_MS));
      });
      clearTimeout(timer);
    }
  }

  // The network is back, or somebody looks at the page again.
  #nudge() {
    this.#failures = 0;
    this.#notBefore = Math.min(this.#notBefore, this.#mayNotBefore);
    this.#link?.check(CHECK_MS);
    this.#wake?.();
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
      case 'session': {
        const { event, session, device, platform } = frame;
        this.#onSession.tell({ event, session, device, platform });
        break;
      }
      case 'resync':
        this.#incoming.live(this.#link, frame.cursor);
        this.#resumed(frame.recovered);
        break;
      case 'token_expiring':
        this.#refresh(REFRESH_TRIES);
        break;
      // `going_away` needs nothing: the close that follows says when to come again. Unknown pushes are of newer gateways.
    }
  }

  #answered(frame) {
    if (frame.id?.startsWith('s')) this.#outgoing.answered(frame);
    else if (frame.id) this.#requests.answered(frame);
    // Only an ack has no id and may be refused.
    else if (frame.type === 'error' && frame.code !== 400) this.#incoming.ackRefused();
  }

  async #refresh(tries) {
    if (typeof this.#token === 'string') return;
    const link = this.#link;
    try {
      await this.#requests.ask('refresh', { token: await this.#freshToken() });
    } catch (error) {
      if (this.#link !== link || link === null) return;
      this.#fault(error);
      if (tries > 1) this.#refreshing = setTimeout(() => this.#refresh(tries - 1), REFRESH_PAUSE_MS);
    }
  }

  #overflow() {
    this.#overflowed = true;
    this.#link?.abandon('too many messages wait to be handled');
  }

  #unreachable() {
    this.#end(new Unreachable(503, `nobody answered within ${this.#options.connectS} s`));
  }

  // Ends for good; null = the app wanted it so.
  #end(error) {
    if (this.#stopError !== undefined) return;
    this.#stopError = error;
    const why = error ?? new Stopped(1000, 'closed by the app');
    this.#link?.close();
    this.#outgoing.stop(why);
    this.#requests.stop(why);
    this.#incoming.end(error);
    this.#page?.close();
    this.#become('stopped');
    this.#wake?.();
    this.#first?.reject(why);
    this.#stopResolve(error);
  }

  #become(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.#onState.tell(state);
  }

  #fault(error) {
    if (this.#onError.size > 0) this.#onError.tell(error);
    else console.error(error);
  }
}

function resolvers() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}
