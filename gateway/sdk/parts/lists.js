// The user's own lists: blocklist, allowlist, friends, sessions.

import { pieces } from './presence.js';

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

export class Blocklist extends UserList {
  #ask;

  constructor(ask) {
    super(ask, 'blocklist');
    this.#ask = ask;
  }

  check(users) {
    return checked(this.#ask, 'blocklist.check', users);
  }
}

export class Allowlist extends UserList {
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

export class Friends {
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

export class Sessions {
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
