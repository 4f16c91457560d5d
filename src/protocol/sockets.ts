/**
 * The messages of the handovers of sockets. Their keys are those of version 0.5, and must stay.
 * With some of them a socket travels. A parser returns `undefined` for anything else.
 */
import type { SocketAddress } from "../core/socket_adapter.ts";

/** A message of the old process about its bound servers. The keys name them. */
export type BoundFromPredecessor =
  /** It listens on these. */
  | { readonly sockets: readonly OfferedSocket[] }
  /** Retain the socket, without accepting from it. A descriptor has a number. */
  | { readonly key: string; readonly hold: true; readonly number?: number }
  /** Listen, on a socket of your own if the address is free. */
  | { readonly key: string; readonly isFree?: boolean }
  /** Give the socket back: the check has failed. */
  | { readonly key: string; readonly back: true }
  /** Close the socket, which has not come back. */
  | { readonly key: string; readonly close: true };

/** A bound server of the old process. */
export type OfferedSocket = {
  readonly key: string;
  readonly address: SocketAddress | undefined;
};

/** The answers of the new process. */
export type BoundFromSuccessor =
  /** It has read all that was offered. */
  | { readonly read: true }
  | BoundClaim
  /** The application has closed its server of this key, which was not in charge yet. */
  | { readonly unclaim: string }
  /** It retains the socket of this key. */
  | { readonly holds: string }
  /** It listens, or has given the socket back. Or it does not listen, and this is why. */
  | { readonly done: true; readonly error?: string };

/** The new process has a server of this key. */
export type BoundClaim = {
  readonly claim: string;
  /** Whether it can retain handles. */
  readonly holds: boolean;
  /** Whether it can receive descriptors. */
  readonly takes: boolean;
};

/** The paths that the old process serves, and its pid. */
export type UnixFromPredecessor = {
  readonly paths: readonly string[];
  readonly pid: number | undefined;
};

/** The new process has made a socket for this path. */
export type UnixFromSuccessor = { readonly made: string };

/** The new process has a native server or a datagram socket of this key. */
export type SocketClaim = { readonly claim: string };

/** The socket of a native server or of datagrams: with a handle, or the number of a descriptor. */
export type SentSocket = { readonly socket: string; readonly number?: number };

/** A message of the old process about the native servers that it steers. */
export type SteeringFromPredecessor =
  /** It steers connections to these. */
  | { readonly addresses: readonly string[] }
  /** The new process listens on all of them. */
  | { readonly complete: true }
  /** Where the sockets of the new process are in their groups in the end. */
  | { readonly positions: readonly GroupPositions[] }
  /** Of several instances: whether this one has the last old sockets. */
  | { readonly isLast: boolean };

/** The positions of sockets in a group. */
export type GroupPositions = readonly [key: string, positions: readonly number[]];

/** The old process listens, and hands no server over. */
export type UnboundFromPredecessor = { readonly mustListen: true };

type Fields = Readonly<Record<string, unknown>>;

const isText = (value: unknown): value is string => typeof value === "string";
const isWhole = (value: unknown): value is number => Number.isSafeInteger(value);
const isObject = (value: unknown): value is Fields => typeof value === "object" && value !== null;
const fieldsOf = (data: unknown): Fields => isObject(data) ? data : {};
const numberIn = ({ number }: Fields) => isWhole(number) && { number };

function parseAddress(value: unknown): SocketAddress | undefined {
  const { address, family, port } = fieldsOf(value);
  return isText(address) && isText(family) && isWhole(port) && port > 0
    ? { address, family, port }
    : undefined;
}

function parseOfferedSocket(value: unknown): OfferedSocket[] {
  const { key, address } = fieldsOf(value);
  return isText(key) ? [{ key, address: parseAddress(address) }] : [];
}

/** Parses a message of the old process about its bound servers. */
export function parseBoundFromPredecessor(data: unknown): BoundFromPredecessor | undefined {
  const fields = fieldsOf(data);
  const { sockets, key, hold, isFree, back, close } = fields;
  if (Array.isArray(sockets)) return { sockets: sockets.flatMap(parseOfferedSocket) };
  if (!isText(key)) return undefined;
  if (back === true) return { key, back };
  if (close === true) return { key, close };
  return hold === true ? { key, hold, ...numberIn(fields) } : { key, isFree: isFree === true };
}

/** Parses the answers of the new process about bound servers. */
export function parseBoundFromSuccessor(data: unknown): BoundFromSuccessor | undefined {
  const { claim, unclaim, holds, takes, done, error, read } = fieldsOf(data);
  if (read === true) return { read };
  if (isText(unclaim)) return { unclaim };
  if (isText(claim)) return { claim, holds: holds === true, takes: takes === true };
  if (isText(holds)) return { holds };
  if (done !== true) return undefined;
  if (error === undefined) return { done };
  return isText(error) ? { done, error } : undefined;
}

/** Parses the paths of the old process. */
export function parseUnixFromPredecessor(data: unknown): UnixFromPredecessor | undefined {
  const { paths, pid } = fieldsOf(data);
  if (!Array.isArray(paths)) return undefined;
  return { paths: paths.filter(isText), pid: isWhole(pid) ? pid : undefined };
}

/** Parses the path of a socket that was made. */
export function parseUnixFromSuccessor(data: unknown): UnixFromSuccessor | undefined {
  const { made } = fieldsOf(data);
  return isText(made) ? { made } : undefined;
}

/** Parses the claim of a native server or of datagrams. */
export function parseSocketClaim(data: unknown): SocketClaim | undefined {
  const { claim } = fieldsOf(data);
  return isText(claim) ? { claim } : undefined;
}

/** Parses what comes with the socket of a native server or of datagrams. */
export function parseSentSocket(data: unknown): SentSocket | undefined {
  const fields = fieldsOf(data);
  return isText(fields.socket) ? { socket: fields.socket, ...numberIn(fields) } : undefined;
}

function parsePositions(value: unknown): GroupPositions[] {
  const [key, own] = Array.isArray(value) ? value : [];
  return isText(key) ? [[key, Array.isArray(own) && own.every(isWhole) ? own : []]] : [];
}

/** Parses a message of the old process about the native servers that it steers. */
export function parseSteering(data: unknown): SteeringFromPredecessor | undefined {
  const { addresses, complete, positions, isLast } = fieldsOf(data);
  if (Array.isArray(addresses)) return { addresses: addresses.filter(isText) };
  if (complete === true) return { complete };
  if (typeof isLast === "boolean") return { isLast };
  if (!Array.isArray(positions)) return undefined;
  return { positions: positions.flatMap(parsePositions) };
}

/** Parses the word that the old process hands no server over. */
export function parseUnbound(data: unknown): UnboundFromPredecessor | undefined {
  return fieldsOf(data).mustListen === true ? { mustListen: true } : undefined;
}
