// Two people in two windows: ?user=alice in one, ?user=bob in the other.

import { Banned, Blocked, Client, Kicked, NoSuchUser, Replaced } from '/sdk/gateway.js';
import { Transcript } from '/demo/transcript.js';
import { View, clock, showChoice, title } from '/demo/view.js';

const PEOPLE = ['alice', 'bob', 'carol', 'dave'];
const TYPING_EVERY_MS = 2_000;
const TYPING_SHOWN_MS = 4_000;

// Asks the gateway's demo for something; the header is what no page of another origin can send.
async function ask(what, user) {
  const response = await fetch(`/demo/${what}?user=${user}`, { headers: { 'X-Gateway-Demo': '1' } });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.reason);
  return answer;
}

class Room {
  #me;
  #other;
  #view;
  #transcript;
  #client = null;
  #blocked = false;
  #cameAt = 0;
  #typedAt = 0;
  #typing = null;

  constructor(me, other) {
    this.#me = me;
    this.#other = other;
    this.#view = new View(me, other, PEOPLE);
    this.#transcript = new Transcript(me);
    for (const message of this.#transcript.with(other)) this.#view.message(message);
    this.#view.composer(
      (text) => this.#send(text),
      () => this.#typed(),
    );
    this.#view.button('block', () => this.#block());
    this.#view.button('leave', () => (this.#client ? this.#client.close() : this.come()));
    this.#view.button('again', () => this.come());
    this.#view.button('kick', () => this.#act('kick', 'kicked'));
    this.#view.button('ban', () => this.#act('ban', 'banned for a minute'));
    this.#view.button('unban', () => this.#act('unban', 'free to come again'));
  }

  // Connects, and stays connected until somebody ends it.
  come() {
    const client = new Client('/', {
      token: async () => (await ask('token', this.#me)).token,
      device: this.#transcript.device,
      platform: 'web',
      cursors: this.#transcript.cursors,
    });
    this.#client = client;
    this.#view.notice(null);
    this.#view.state(client.state);
    client.onState((state) => this.#view.state(state));
    client.onMessage((message) => this.#received(message));
    client.onRecalled(({ mid }) => this.#changed(mid, null));
    client.onUpdated(({ mid, body }) => this.#changed(mid, body));
    client.onPresence(({ user, online }) => {
      this.#view.presence(user, online);
      this.#view.event(`${title(user)} is ${online ? 'online' : 'offline'}`);
    });
    client.onResumed((recovered) => this.#resumed(client.node, recovered));
    client.onError((error) => this.#view.event(error.reason ?? error.message));
    client.stopped().then((why) => this.#stopped(why));
    // Why it could not is told by `stopped`.
    client.connect().then(
      () => this.#look(client),
      () => {},
    );
  }

  #resumed(node, recovered) {
    this.#cameAt = Date.now();
    this.#view.event(
      recovered
        ? `Connected to node ${node}: nothing is missing (recovered: true)`
        : `Connected to node ${node}: some messages are no longer held (recovered: false)`,
    );
  }

  #stopped(why) {
    this.#client = null;
    this.#view.state('stopped');
    this.#view.typing(false);
    for (const user of PEOPLE) this.#view.presence(user, false);
    this.#view.notice(why && reason(why));
    this.#view.event(why ? reason(why) : 'You went away');
  }

  // What a new connection asks for; the SDK itself asks again after a break.
  async #look(client) {
    try {
      const present = await client.watch(PEOPLE.filter((user) => user !== this.#me));
      for (const { user, online } of present.values()) this.#view.presence(user, online);
      this.#blocked = (await client.blocklist.check([this.#other])).get(this.#other);
      this.#view.blocked(this.#blocked);
    } catch (error) {
      this.#view.event(error.reason ?? error.message);
    }
  }

  #received(message) {
    const { from, to, kind } = message;
    if (kind === 'typing') {
      if (from === this.#other) this.#showTyping();
      return;
    }
    if (!this.#transcript.add(message)) return;
    if (from !== this.#other && to !== this.#other) {
      this.#view.event(`${title(from)} wrote to you`);
      return;
    }
    if (from === this.#other) this.#hideTyping();
    this.#view.message(message, message.sentAt < this.#cameAt ? 'waited for you' : '');
  }

  #changed(mid, body) {
    this.#transcript.change(mid, body);
    this.#view.changed(mid, body);
  }

  async #send(text) {
    const became = this.#view.message({ from: this.#me, body: text });
    this.#typedAt = 0;
    try {
      if (!this.#client) throw new Error('not connected');
      const { mid, sentAt, online } = await this.#client.send(this.#other, text);
      this.#transcript.add({ mid, from: this.#me, to: this.#other, body: text, sentAt });
      became('', online ? 'stored, they are online' : 'stored, waits for them', sentAt, mid);
    } catch (error) {
      became('failed', refusal(error, title(this.#other)));
    }
  }

  #typed() {
    if (this.#client?.state !== 'live' || Date.now() - this.#typedAt < TYPING_EVERY_MS) return;
    this.#typedAt = Date.now();
    // Nobody waits for it: it is not kept, and where it is refused the message itself will tell.
    this.#client.send(this.#other, true, { kind: 'typing', ephemeral: true }).catch(() => {});
  }

  #showTyping() {
    clearTimeout(this.#typing);
    this.#view.typing(true);
    this.#typing = setTimeout(() => this.#view.typing(false), TYPING_SHOWN_MS);
  }

  #hideTyping() {
    clearTimeout(this.#typing);
    this.#view.typing(false);
  }

  async #block() {
    if (!this.#client) return;
    if (this.#blocked) await this.#client.blocklist.remove([this.#other]);
    else await this.#client.blocklist.add([this.#other]);
    this.#blocked = !this.#blocked;
    this.#view.blocked(this.#blocked);
    this.#view.event(`You ${this.#blocked ? 'blocked' : 'unblocked'} ${title(this.#other)}`);
  }

  async #act(what, became) {
    const { sessions_closed: closed, took_ms: took } = await ask(what, this.#other);
    const drop = closed === undefined ? '' : `: ${closed} session${closed === 1 ? '' : 's'} closed in ${took} ms`;
    this.#view.event(`${title(this.#other)} is ${became}${drop}`);
  }
}

// Why one is out, in words.
function reason(why) {
  if (why instanceof Kicked) return 'You were kicked by an admin';
  if (why instanceof Banned) return `You are banned until ${why.until ? clock(why.until) : 'an admin lifts it'}`;
  if (why instanceof Replaced) return 'You are here in another window now';
  return `Disconnected: ${why.reason}`;
}

// Why a message was not taken, in words.
function refusal(error, other) {
  if (error instanceof Blocked) return `not sent: ${other} has blocked you`;
  if (error instanceof NoSuchUser) return `not sent: there is no ${other}`;
  return `not sent: ${error.reason ?? error.message}`;
}

const asked = new URLSearchParams(location.search);
const me = asked.get('user');
if (PEOPLE.includes(me)) {
  const others = PEOPLE.filter((user) => user !== me);
  new Room(me, others.includes(asked.get('with')) ? asked.get('with') : others[0]).come();
} else {
  showChoice(PEOPLE);
}
