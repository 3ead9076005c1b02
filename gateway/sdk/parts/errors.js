// What can go wrong, as types. `code` is the number of the published protocol, `reason` is for people to read.

export class GatewayError extends Error {
  constructor(code, reason, more = {}) {
    super(`${reason} (${code})`);
    this.name = new.target.name;
    this.code = code;
    this.reason = reason;
    if (more.cause !== undefined) this.cause = more.cause;
  }
}

// The gateway looked at the command and said no; nothing was stored.
export class Refused extends GatewayError {
  constructor(code, reason, more = {}) {
    super(code, reason, more);
    this.retryAfterMs = more.retryAfterMs ?? null;
    this.extra = more.extra ?? null;
  }
}
export class Malformed extends Refused {}
export class NoSuchUser extends Refused {}
export class Blocked extends Refused {}
export class NotAllowed extends Refused {}
export class NotFriends extends Refused {}
export class Muted extends Refused {}
export class CheckRefused extends Refused {}
export class WordBlocked extends Refused {}
export class RateLimited extends Refused {}
export class InboxFull extends Refused {}
export class ListFull extends Refused {}
export class TooLarge extends Refused {}
export class Deactivated extends Refused {}

// Nothing was stored, certainly; it may be tried again.
export class Unavailable extends GatewayError {}
// The command went out and nobody knows what became of it.
export class OutcomeUnknown extends GatewayError {}
// As many sends or questions wait already as may wait.
export class QueueFull extends GatewayError {}
// Nobody answered within `connectS`.
export class Unreachable extends GatewayError {
  constructor(reason) {
    super(503, reason);
  }
}

// The client has ended: coming again cannot help without a person or a new token. `closeCode` is the WebSocket's,
// `until` a ban's end in Unix milliseconds (null = until lifted, or no ban).
export class Stopped extends GatewayError {
  constructor(closeCode, reason, more = {}) {
    super(more.code ?? closeCode, reason, more);
    this.closeCode = closeCode;
    this.until = more.until ?? null;
  }
}
// The app closed the client, or has not connected it.
export class Closed extends Stopped {
  constructor(reason = 'the client is closed') {
    super(1000, reason);
  }
}
export class TokenInvalid extends Stopped {}
export class TokenExpired extends Stopped {}
export class Banned extends Stopped {}
export class AccountDeactivated extends Stopped {}
export class Replaced extends Stopped {}
export class Kicked extends Stopped {}
export class RefusedDevice extends Stopped {}
export class TooManySessions extends Stopped {}
export class OriginRefused extends Stopped {}

const REFUSALS = new Map([
  [400, Malformed],
  [404, NoSuchUser],
  [405, Blocked],
  [407, NotAllowed],
  [20106, Muted],
  [20113, CheckRefused],
  [20604, RateLimited],
  [20607, InboxFull],
  [21501, WordBlocked],
  [25467, ListFull],
  [25469, NotFriends],
  [30016, TooLarge],
  [31029, Deactivated],
  [503, Unavailable],
  [504, OutcomeUnknown],
]);

const STOPS = new Map([
  [4500, TokenInvalid],
  [4501, TokenExpired],
  [4502, Banned],
  [4503, AccountDeactivated],
  [4504, Replaced],
  [4505, Kicked],
  [4506, RefusedDevice],
  [4507, TooManySessions],
  [4508, OriginRefused],
]);

// The close code that says the same as an error code in the body of a handshake refused by an HTTP status.
const CLOSE_OF_CODE = new Map([
  [31004, 4500],
  [31020, 4501],
  [31009, 4502],
  [31029, 4503],
  [31010, 4504],
  [31023, 4506],
  [31024, 4507],
  [403, 4508],
]);

// The typed error of an `error` reply.
export function refusalOf(reply) {
  const kind = REFUSALS.get(reply.code) ?? Refused;
  return new kind(reply.code, reply.reason, { retryAfterMs: reply.retry_after_ms, extra: reply.extra });
}

// The typed error of an ending after which one does not come again.
export function stopOf(ending) {
  const { code, status, until } = ending;
  const closeCode = status === null ? ending.closeCode : (CLOSE_OF_CODE.get(code) ?? status);
  // A malformed handshake shares the close code of a malformed token.
  const kind = code === 400 ? Stopped : (STOPS.get(closeCode) ?? Stopped);
  return new kind(closeCode, ending.reason || 'the gateway closed the connection', { code, until });
}
