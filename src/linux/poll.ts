import type { Libc } from "../core/socket_adapter.ts";

/** The events of a descriptor at this moment, among those that are asked for; poll(2). */
export function poll(libc: Libc, fd: number, events: number): number {
  // struct pollfd { int fd; short events; short revents; }
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, fd, true);
  view.setInt16(4, events, true);
  return libc.poll(bytes, 1, 0) > 0 ? view.getInt16(6, true) : 0;
}
