// One WebSocket, from its opening to its end.

const SUBPROTOCOL = 'gateway.v1';
const BEARER = 'gateway.bearer.';
const PATH = '/v1/connect';

// The longest wait for the answer to a keepalive's ping.
const PONG_MS = 20_000;

// What may stand in a subprotocol's name (RFC 9110, token); any other access token goes in an `auth` frame.
const SUBPROTOCOL_NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;

// The gateway's address as a WebSocket's: http becomes ws, and a bare host gets the path.
export function addressOf(url) {
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

export class Link {
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
