// A WebSocket client (RFC 6455) for Node where it has none of its own: as much of the browser's class as the SDK uses.

import { createHash, randomBytes, randomFillSync } from 'node:crypto';
import { request as plain } from 'node:http';
import { request as secure } from 'node:https';

const MAGIC = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const MESSAGE_BYTES_MAX = 64 * 1024 * 1024;
const REFUSAL_BYTES_MAX = 4096;
// After this side's close frame the other side has so long to answer it.
const CLOSE_MS = 2_000;

const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export class NodeSocket {
  onopen = null;
  onmessage = null;
  onerror = null;
  onclose = null;
  #request;
  #stream = null;
  #waiting = Buffer.alloc(0);
  #parts = [];
  #partsBytes = 0;
  #closing = null;
  #timer = null;

  constructor(url, protocols = []) {
    const { protocol, href } = new URL(url);
    this.readyState = 0;
    const key = randomBytes(16).toString('base64');
    const headers = { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Key': key };
    headers['Sec-WebSocket-Version'] = '13';
    if (protocols.length > 0) headers['Sec-WebSocket-Protocol'] = protocols.join(', ');
    const ask = protocol === 'wss:' ? secure : plain;
    // A connection of its own: an agent would keep it for others.
    this.#request = ask(href.replace(/^ws/, 'http'), { headers, agent: false });
    this.#request.on('upgrade', (response, stream, head) => this.#upgraded(response, stream, head, key, protocols));
    this.#request.on('response', (response) => this.#refused(response));
    this.#request.on('error', (error) => this.#gone(1006, error.message));
    this.#request.end();
  }

  send(text) {
    if (this.readyState === 1) this.#write(TEXT, Buffer.from(text));
  }

  close(code = 1000, reason = '') {
    if (this.readyState >= 2) return;
    if (this.readyState === 0) {
      this.#request.destroy();
      this.#gone(1006, '');
      return;
    }
    const body = Buffer.alloc(2 + Buffer.byteLength(reason));
    body.writeUInt16BE(code);
    body.write(reason, 2);
    this.#sayClose(body);
  }

  #upgraded(response, stream, head, key, protocols) {
    const accept = createHash('sha1').update(key + MAGIC).digest('base64');
    const chosen = response.headers['sec-websocket-protocol'];
    this.#stream = stream;
    stream.on('error', () => {});
    stream.on('close', () => this.#gone(...(this.#closing ?? [1006, ''])));
    // RFC 6455, 4.1: an answer to another question, or a subprotocol that nobody offered, fails the connection.
    if (response.headers['sec-websocket-accept'] !== accept || (chosen && !protocols.includes(chosen))) {
      stream.destroy();
      return;
    }
    this.readyState = 1;
    stream.setNoDelay(true);
    stream.on('data', (bytes) => this.#take(bytes));
    stream.on('end', () => stream.end());
    this.onopen?.({});
    if (head.length > 0) this.#take(head);
  }

  // Refused by an HTTP status; its body says why.
  #refused(response) {
    let body = Buffer.alloc(0);
    response.on('data', (bytes) => {
      if (body.length < REFUSAL_BYTES_MAX) body = Buffer.concat([body, bytes]);
      else this.#request.destroy();
    });
    response.on('error', () => {});
    response.on('close', () => this.#gone(1006, body.toString(), response.statusCode));
  }

  #take(bytes) {
    this.#waiting = this.#waiting.length > 0 ? Buffer.concat([this.#waiting, bytes]) : bytes;
    for (;;) {
      if (this.readyState === 3 || this.#closing) return;
      const frame = this.#cut();
      if (frame === null) return;
      this.#frame(frame);
    }
  }

  // The next whole frame of what waits, null where there is none yet (RFC 6455, 5.2).
  #cut() {
    const bytes = this.#waiting;
    if (bytes.length < 2) return null;
    const final = (bytes[0] & 0x80) !== 0;
    const opcode = bytes[0] & 0x0f;
    let length = bytes[1] & 0x7f;
    let at = 2;
    if ((bytes[0] & 0x70) !== 0 || (bytes[1] & 0x80) !== 0) return this.#fail(1002);
    if (opcode >= 8 && (!final || length > 125)) return this.#fail(1002);
    if (length === 126) {
      if (bytes.length < 4) return null;
      length = bytes.readUInt16BE(2);
      at = 4;
    } else if (length === 127) {
      if (bytes.length < 10) return null;
      const long = bytes.readBigUInt64BE(2);
      if (long > BigInt(MESSAGE_BYTES_MAX)) return this.#fail(1009);
      length = Number(long);
      at = 10;
    }
    if (this.#partsBytes + length > MESSAGE_BYTES_MAX) return this.#fail(1009);
    if (bytes.length < at + length) return null;
    this.#waiting = bytes.subarray(at + length);
    return { final, opcode, body: bytes.subarray(at, at + length) };
  }

  #frame({ final, opcode, body }) {
    if (opcode === PING) this.#write(PONG, body);
    else if (opcode === CLOSE) this.#closed(body);
    else if (opcode === TEXT || opcode === 0) this.#text(final, opcode, body);
    else if (opcode === BINARY) this.#fail(1003);
    else if (opcode !== PONG) this.#fail(1002);
  }

  #text(final, opcode, body) {
    if ((opcode === TEXT) === this.#parts.length > 0) {
      this.#fail(1002);
      return;
    }
    this.#parts.push(body);
    this.#partsBytes += body.length;
    if (!final) return;
    const whole = this.#parts.length === 1 ? body : Buffer.concat(this.#parts);
    this.#parts = [];
    this.#partsBytes = 0;
    let data;
    try {
      data = utf8.decode(whole);
    } catch {
      this.#fail(1007);
      return;
    }
    this.onmessage?.({ data });
  }

  // The other side's close frame: said back, and then the server ends the TCP connection.
  #closed(body) {
    this.#closing = body.length >= 2 ? [body.readUInt16BE(0), body.toString('utf8', 2)] : [1005, ''];
    this.#sayClose(body.subarray(0, 2));
  }

  #sayClose(body) {
    if (this.readyState !== 1) return;
    this.#write(CLOSE, body);
    this.readyState = 2;
    this.#stream.end();
    this.#timer = setTimeout(() => this.#stream.destroy(), CLOSE_MS);
  }

  // This side's fault-finding: said to the other side; the app sees an abnormal end, as in a browser.
  #fail(code) {
    const body = Buffer.alloc(2);
    body.writeUInt16BE(code);
    this.#closing = [1006, `the peer broke the protocol (${code})`];
    this.#sayClose(body);
    return null;
  }

  #gone(code, reason, status = null) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    clearTimeout(this.#timer);
    this.#waiting = Buffer.alloc(0);
    this.onclose?.({ code, reason, status });
  }

  // One frame, masked as a client's must be (RFC 6455, 5.3).
  #write(opcode, body) {
    if (this.readyState !== 1) return;
    const long = body.length < 126 ? 0 : body.length < 65_536 ? 2 : 8;
    const frame = Buffer.allocUnsafe(6 + long + body.length);
    frame[0] = 0x80 | opcode;
    frame[1] = 0x80 | (long === 0 ? body.length : long === 2 ? 126 : 127);
    if (long === 2) frame.writeUInt16BE(body.length, 2);
    if (long === 8) frame.writeBigUInt64BE(BigInt(body.length), 2);
    const mask = frame.subarray(2 + long, 6 + long);
    randomFillSync(mask);
    const at = 6 + long;
    for (let index = 0; index < body.length; index += 1) frame[at + index] = body[index] ^ mask[index & 3];
    this.#stream.write(frame);
  }
}
