// Keeps a connection: one link after the other, until it ends for good.

import { Closed, TokenExpired, Unreachable, stopOf } from './errors.js';
import { jitter, stops, within } from './backoff.js';
import { Link } from './link.js';
import { Page } from './page.js';

const RECONNECT_CAP_MS = 30_000;
// A connection that held for so long makes the next break the first again.
const HELD_MS = 5_000;
const TOKEN_MS = 30_000;
// A page that was offline or hidden asks whether its link lives, for so long.
const CHECK_MS = 2_000;
// The longest delay that a timer takes.
const TIMER_MAX_MS = 2 ** 31 - 1;

export class Upkeep {
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
