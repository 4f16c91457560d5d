/** What another process gets to have the same socket: a handle for the channel, or a descriptor. */
export type SharedSocket = { readonly handle: unknown } | { readonly fd: number };
