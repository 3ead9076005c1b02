// Types of gateway.js. Times are Unix milliseconds; options that end in S are seconds.

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type Platform = 'ios' | 'android' | 'web' | 'desktop' | 'mini' | 'other';
/** `waiting`: for a network, or for its turn to try again; also before `connect`. `stopped`: for good. */
export type State = 'connecting' | 'live' | 'waiting' | 'stopped';
export type Off = () => void;

/** Keeps the place in the inbox over restarts of the app. */
export interface Cursors {
  load(): string | null | undefined | Promise<string | null | undefined>;
  save(cursor: string): unknown;
}

export interface Options {
  /** The access token, or a function that gives one; a function is asked afresh for every attempt to connect. */
  token: string | (() => string | Promise<string>);
  /** An id of the app's own choosing, kept over restarts; without one the gateway remembers nothing of what was handled. */
  device?: string | null;
  /** Default: `web` in a page, else `other`. */
  platform?: Platform;
  cursors?: Cursors | null;
  /** When a message counts as taken over: when its handler has returned (default), or as soon as it has arrived. */
  ack?: 'handled' | 'received';
  /** Silence after which the link is checked. Default: as the gateway says. */
  heartbeatS?: number | null;
  /** How long `connect` tries while nobody is there; null = for ever. Default 30. */
  connectS?: number | null;
  /** How long one attempt to connect may take. Default 10. */
  attemptS?: number;
  /** How long an answer may take. Default 10. */
  answerS?: number;
  /** How long a message is tried in all, waiting included; at most 540. Default 300. */
  sendS?: number;
  /** Messages that may wait to be sent. Default 1,000. */
  queueMax?: number;
  /** Messages to one recipient that may be out at once; over 1, one that is repeated may come after later ones. Default 1. */
  inFlight?: number;
  /** Messages that may wait to be handled; the rest waits at the gateway. Default 10,000. */
  incomingMax?: number;
}

export interface SendOptions {
  kind?: string;
  /** For whoever is connected now, stored nowhere, tried once; refused at once while not connected. */
  ephemeral?: boolean;
  /** Identifies the message among this user's, over restarts of the app; made up where there is none. */
  key?: string;
  /** It may have been sent before, with this key and in the last ten minutes: it is then stored once. */
  retry?: boolean;
}

export interface Sent {
  mid: string;
  sentAt: number;
  /** Whether the recipient was connected. */
  online: boolean;
  /** 21502 where words in the body were replaced. */
  code: number | null;
  /** What the app's own server says to the sender. */
  extra: string | null;
}

export interface Message {
  mid: string;
  /** This user's own id where another device of this user sent it. */
  from: string;
  to: string;
  kind: string;
  body: any;
  sentAt: number;
  /** null where it is in no inbox: ephemeral, or a broadcast to users online. */
  cursor: string | null;
  device: string | null;
  system: boolean;
  metadata: Record<string, string> | null;
}

export interface Recalled {
  mid: string;
  from: string;
  to: string;
  at: number;
  cursor: string;
  admin: boolean;
  extra: string | null;
}

export interface Updated {
  mid: string;
  from: string;
  to: string;
  body: any;
  at: number;
  cursor: string;
}

export interface Presence {
  user: string;
  online: boolean;
  lastSeen: number | null;
  platforms: Platform[];
  version: number;
}

export interface SessionChange {
  event: 'opened' | 'closed';
  session: string;
  device: string | null;
  platform: Platform;
}

export interface SessionInfo {
  session: string;
  device: string | null;
  platform: Platform;
  node: string;
  connectedAt: number;
  this: boolean;
}

export interface Friend {
  user: string;
  name: string;
  alias: string;
  addedAt: number;
}

export interface UserInfo {
  user: string;
  name: string;
  avatarUrl: string;
  profile?: any;
}

export type UserIds = string | Iterable<string>;

export interface Blocklist {
  add(users: UserIds): Promise<void>;
  remove(users: UserIds): Promise<void>;
  check(users: UserIds): Promise<Map<string, boolean>>;
  list(): AsyncGenerator<string, void, void>;
}

export interface Allowlist {
  enable(): Promise<void>;
  disable(): Promise<void>;
  status(): Promise<boolean>;
  add(users: UserIds): Promise<void>;
  remove(users: UserIds): Promise<void>;
  list(): AsyncGenerator<string, void, void>;
}

export interface Friends {
  check(users: UserIds): Promise<Map<string, boolean>>;
  list(): AsyncGenerator<Friend, void, void>;
}

export interface Sessions {
  list(): AsyncGenerator<SessionInfo, void, void>;
  drop(session: string): Promise<void>;
}

export interface Users {
  /** At most 20 ids at a time; unknown ones are left out of the answer. null = the gateway's own again. */
  setProvider(provider: ((users: string[]) => Promise<UserInfo[]>) | null): void;
  get(user: string): Promise<UserInfo | null>;
  getMany(users: Iterable<string>): Promise<Map<string, UserInfo | null>>;
  refresh(user: string): Promise<UserInfo | null>;
  /** Without asking: undefined = nothing is known, null = no such user. */
  cached(user: string): UserInfo | null | undefined;
  onChange(handler: (user: string, info: UserInfo | null) => unknown): Off;
}

export class Client implements AsyncIterable<Message> {
  constructor(url: string | URL, options: Options);
  readonly state: State;
  readonly session: string;
  readonly user: string;
  readonly device: string | null;
  readonly node: string;
  readonly duplicates: number;
  readonly blocklist: Blocklist;
  readonly allowlist: Allowlist;
  readonly friends: Friends;
  readonly sessions: Sessions;
  readonly users: Users;
  /** Resolves at the first welcome. Rejects with a Stopped at once, with Unreachable after `connectS`. */
  connect(): Promise<void>;
  close(): Promise<void>;
  /** Resolves when the client has ended: with why, or null after `close`. */
  stopped(): Promise<Stopped | Unreachable | null>;
  /** Rejects with a Refused, Unavailable, OutcomeUnknown, QueueFull or Stopped. */
  send(to: string, body: any, options?: SendOptions): Promise<Sent>;
  ask(type: string, fields?: Record<string, unknown>): Promise<any>;
  ping(): Promise<number>;
  watch(users: UserIds): Promise<Map<string, Presence>>;
  unwatch(users: UserIds): Promise<void>;
  presence(user: string): Presence | null;
  onMessage(handler: (message: Message) => unknown): Off;
  onRecalled(handler: (recalled: Recalled) => unknown): Off;
  onUpdated(handler: (updated: Updated) => unknown): Off;
  onPresence(handler: (presence: Presence) => unknown): Off;
  onSession(handler: (change: SessionChange) => unknown): Off;
  /** At every welcome; false = something that this device had not taken over may be lost. */
  onResumed(handler: (recovered: boolean) => unknown): Off;
  onState(handler: (state: State, why: string) => unknown): Off;
  onError(handler: (error: unknown) => unknown): Off;
  [Symbol.asyncIterator](): AsyncGenerator<Message, void, void>;
}

export class GatewayError extends Error {
  readonly code: number;
  readonly reason: string;
}

/** The gateway said no; nothing was stored. */
export class Refused extends GatewayError {
  readonly retryAfterMs: number | null;
  readonly extra: string | null;
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

/** Nothing was stored, certainly; it may be tried again. */
export class Unavailable extends GatewayError {}
/** It went out and nobody knows what became of it. */
export class OutcomeUnknown extends GatewayError {}
/** As many wait already as may wait. */
export class QueueFull extends GatewayError {}
/** Nobody let this client in within `connectS`. */
export class Unreachable extends GatewayError {}

/** The client has ended: coming again cannot help without a person or a new token. */
export class Stopped extends GatewayError {
  readonly closeCode: number;
  readonly until: number | null;
}
export class Closed extends Stopped {}
export class TokenInvalid extends Stopped {}
export class TokenExpired extends Stopped {}
export class Banned extends Stopped {}
export class AccountDeactivated extends Stopped {}
export class Replaced extends Stopped {}
export class Kicked extends Stopped {}
export class RefusedDevice extends Stopped {}
export class TooManySessions extends Stopped {}
export class OriginRefused extends Stopped {}
