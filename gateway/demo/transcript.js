// What one person has read and written in this browser, kept over a reload, and how far it was read.

const MESSAGES_MAX = 200;

export class Transcript {
  #key;
  #messages;

  // `me`: whose.
  constructor(me) {
    this.#key = `gateway-demo:${me}`;
    this.#messages = read(`${this.#key}:messages`) ?? [];
    // One device a browser: a reload takes over from itself.
    let device = read(`${this.#key}:device`);
    if (device === null) write(`${this.#key}:device`, (device = crypto.randomUUID()));
    this.device = device;
    // For the SDK: where to go on after a reload.
    this.cursors = {
      load: () => read(`${this.#key}:cursor`),
      save: (cursor) => write(`${this.#key}:cursor`, cursor),
    };
  }

  // The messages between `me` and another one, oldest first.
  with(other) {
    return this.#messages.filter((message) => message.from === other || message.to === other);
  }

  // Adds a message; false where it is there already.
  add({ mid, from, to, body, sentAt }) {
    if (this.#messages.some((message) => message.mid === mid)) return false;
    this.#messages.push({ mid, from, to, body, sentAt });
    this.#messages = this.#messages.slice(-MESSAGES_MAX);
    this.#keep();
    return true;
  }

  // Gives a message another body; null = it was recalled.
  change(mid, body) {
    const message = this.#messages.find((each) => each.mid === mid);
    if (!message) return;
    message.body = body;
    this.#keep();
  }

  #keep() {
    write(`${this.#key}:messages`, this.#messages);
  }
}

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

function write(key, value) {
  localStorage.setItem(key, JSON.stringify(value));
}
