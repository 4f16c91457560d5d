import type { Libc } from "../../src/core/socket_adapter.ts";
import type { FetchHandler } from "../../src/core/token.ts";
import type { Permission, PermissionState, PermissionValue } from "./permissions.ts";
import type { SharedVariables } from "./threads.ts";

/** A connection to a unix socket. */
export interface DenoConnection {
  read(buffer: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  close(): void;
  unref(): void;
}

/** What a path leads to. */
export interface DenoFileInfo {
  readonly isFile: boolean;
  readonly isDirectory: boolean;
  readonly isSymlink: boolean;
  readonly isSocket: boolean | null;
  readonly mode: number | null;
  readonly mtime: Date | null;
  readonly size: number;
  readonly uid: number | null;
  readonly gid: number | null;
}

/** The options of a command that are used here. */
export interface DenoCommandOptions {
  args: readonly string[];
  cwd?: string;
  env?: Record<string, string>;
  clearEnv?: boolean;
  detached?: boolean;
  stdin: "piped" | "null";
  stdout: "inherit" | "piped";
  stderr: "inherit" | "piped";
  signal?: AbortSignal;
}

/** A command. */
export interface DenoCommand {
  output(): Promise<{ success: boolean; code: number; stdout: Uint8Array; stderr: Uint8Array }>;
  spawn(): {
    readonly pid: number;
    readonly stdin: WritableStream<Uint8Array>;
    readonly status: Promise<{ code: number; signal: string | null }>;
    kill(signal: "SIGKILL"): void;
    unref(): void;
  };
}

/**
 * The part of the global `Deno` that is used here. Declared by hand, because the other runtimes'
 * type checkers do not know it.
 */
export interface DenoNamespace {
  upgradeWebSocket(request: unknown, ...rest: unknown[]): { readonly socket: WebSocket };
  readonly internal: symbol;
  readonly [inside: symbol]: unknown;
  readonly pid: number;
  readonly ppid: number;
  readonly args: readonly string[];
  readonly mainModule: string;
  readonly build: { readonly os: string; readonly arch: string; readonly standalone: boolean };
  readonly env: SharedVariables;
  readonly permissions: {
    querySync(descriptor: { name: Permission } & PermissionValue): PermissionState;
  };
  execPath(): string;
  cwd(): string;
  uid(): number | null;
  exit(code: number): void;
  kill(pid: number, signal: string): void;
  unrefTimer(id: unknown): void;

  addSignalListener(signal: string, handler: () => void): void;
  removeSignalListener(signal: string, handler: () => void): void;

  readonly Command: new (file: string, options: DenoCommandOptions) => DenoCommand;
  readonly errors: { readonly Interrupted: new (message: string) => Error };

  /** Only with --unstable-net. */
  readonly listenDatagram?: unknown;
  readonly listenTls?: unknown;
  connect(options: { transport: "unix"; path: string }): Promise<DenoConnection>;
  listen(
    options: { transport: "unix"; path: string },
  ): { accept(): Promise<DenoConnection>; close(): void };
  serve(
    options: object,
    handler: FetchHandler,
  ): {
    readonly addr: { readonly port?: number };
    readonly finished: Promise<void>;
    shutdown(): Promise<void>;
  };

  readonly UnsafePointer: {
    of(buffer: Uint8Array): object | null;
    value(pointer: object | null): bigint;
  };
  dlopen(name: string, calls: object): { symbols: Omit<Libc, "addressOf" | "epollEventBytes"> };

  chmodSync(path: string, mode: number): void;
  chownSync(path: string, uid: number, gid: number): void;
  linkSync(from: string, to: string): void;
  lstatSync(path: string): DenoFileInfo;
  mkdirSync(path: string, options: { mode: number; recursive?: boolean }): void;
  openSync(path: string, options: { read: boolean }): {
    readSync(buffer: Uint8Array): number | null;
    seekSync(offset: number, whence: 0): number;
    close(): void;
  };
  readDirSync(path: string): Iterable<{ readonly name: string; readonly isSymlink: boolean }>;
  readLinkSync(path: string): string;
  readTextFileSync(path: string): string;
  realPathSync(path: string): string;
  removeSync(path: string): void;
  renameSync(from: string, to: string): void;
  statSync(path: string): DenoFileInfo;
  writeTextFileSync(
    path: string,
    text: string,
    options: { mode: number; createNew: boolean },
  ): void;
}
