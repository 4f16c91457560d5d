/** How a WebSocket is closed whose server is replaced; RFC 6455, section 7.4.1. */

/** The code: the endpoint is going away. */
export const GOING_AWAY = 1001;
/** The reason, for people. */
export const GOING_AWAY_REASON = "the server is going away";
/** A close frame with the code, as a server writes it; RFC 6455, section 5.2. */
export const GOING_AWAY_FRAME: Uint8Array = new Uint8Array([
  0x88,
  2,
  GOING_AWAY >> 8,
  GOING_AWAY & 0xff,
]);
