/**
 * What the library needs of a runtime: types for authors of an adapter, which is given to `listen({
 * adapter })`. There is one each for Deno, Bun and Node. Programs need none of this; their tests
 * use `@js0/reload-self/testing`.
 *
 * @module
 */
export type {
  Adapter,
  BasicAdapter,
  Channel,
  Clock,
  DescriptorChannel,
  ExitStatus,
  FetchAdapter,
  NativeAdapter,
  NativeServerView,
  OtherHandlers,
  Predecessor,
  StartedProcess,
  StartRequest,
  ThreadGroup,
} from "./src/core/adapter.ts";
export type {
  BindableDatagrams,
  DatagramAdapter,
  DatagramAddress,
  DatagramHost,
  DatagramSocket,
  NativeDatagrams,
} from "./src/core/datagrams.ts";
export type { FileAccess, Files } from "./src/core/files.ts";
export type { Live, LiveHandlers, LiveSocket, SocketListener } from "./src/core/live.ts";
export type {
  ActivatedAddress,
  AdoptedServer,
  InheritedAddress,
  NativeAddress,
  NativeConnections,
  NativeHost,
  NativeListen,
  NativeServe,
  Placement,
  ServedApp,
  ServedAt,
  ServeFunction,
} from "./src/core/native.ts";
export type {
  BasicServiceAdapter,
  CheckOrder,
  ErrorOutput,
  ReleaseLink,
  ServiceAdapter,
  Supervisor,
} from "./src/core/service_adapter.ts";
export type { SharedSocket } from "./src/core/shared_socket.ts";
export type {
  ConnectionAdapter,
  Http1View,
  IdleDescriptors,
  IdleTaker,
  Libc,
  Listener,
  ListenSource,
  OwnSocket,
  RetainedSocket,
  SocketAdapter,
  SocketAddress,
  TakeableSocket,
} from "./src/core/socket_adapter.ts";
export type { BindableServer, BindOptions, FetchHandler } from "./src/core/token.ts";
