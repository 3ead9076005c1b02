// Who is online, of the users that are watched.

import { Stopped } from './errors.js';
import { Handlers } from './handlers.js';

const USERS_A_CALL = 200;
// Tries to watch again what was watched before a break, and between two of them; the next link tries anew.
const AGAIN_MAX = 30;
const AGAIN_MS = 1_000;

// The pieces of a list that fit into one command each.
export function pieces(users, size = USERS_A_CALL) {
  const all = typeof users === 'string' ? [users] : [...users];
  const cut = [];
  for (let at = 0; at < all.length; at += size) cut.push(all.slice(at, at + size));
  return cut;
}

export class Watching {
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
