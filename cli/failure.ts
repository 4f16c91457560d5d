/** Something that the person at the command line has to know, in one line. */
export class Failure extends Error {
  /** 1: it was tried and failed. 2: it could not be tried, because of what was asked for. */
  readonly exitCode: 1 | 2;

  /** What failed, and what to do. */
  constructor(exitCode: 1 | 2, message: string) {
    super(message);
    this.exitCode = exitCode;
  }
}
