/** An error for the person at the command line, in one line. */
export class Failure extends Error {
  /** 1: it was tried and failed. 2: a usage error. */
  readonly exitCode: 1 | 2;

  /** The message says what failed, and what to do. */
  constructor(exitCode: 1 | 2, message: string) {
    super(message);
    this.exitCode = exitCode;
  }
}
