/** The pid in the text of a file, or `undefined` where there is none. */
export function parsePid(text: string): number | undefined {
  const match = /^\s*([1-9]\d{0,9})\s*$/.exec(text);
  const pid = Number(match?.[1]);
  return match !== null && pid < 2 ** 31 ? pid : undefined;
}
