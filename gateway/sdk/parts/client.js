// The face of the SDK: one device of one user, connected for as long as the app wants it.

import { Closed } from './errors.js';
import { Handlers } from './handlers.js';
import { Incoming } from './incoming.js';
import { addressOf } from './link.js';
import { Allowlist, Blocklist, Friends, Sessions } from './lists.js';
import { Outgoing } from './outgoing.js';
import { Watching } from './presence.js';
import { Requests } from './requests.js';
import { Upkeep } from './upkeep.js';
import { Users } from './users.js';

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

export class Client {
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
