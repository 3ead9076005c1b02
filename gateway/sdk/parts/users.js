// Names and avatars: asked of a provider, kept for a while.

import { within } from './backoff.js';
import { QueueFull } from './errors.js';
import { Handlers } from './handlers.js';

const INFOS_A_CALL = 20;
const KEPT_MAX = 1_000;
const LIFETIME_MS = 600_000;
// Users that may wait for an answer; and how long a provider may take.
const WAITING_MAX = 10_000;
const FETCH_MS = 15_000;
// Somebody unknown may register at any time.
const UNKNOWN_LIFETIME_MS = 30_000;

export class Users {
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
