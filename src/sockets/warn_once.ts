/** Warns of one thing only: what fails at one reload fails at all. */
export function createWarnOnce(warn: (message: string) => void): (message: string) => void {
  let isWarned = false;
  return (message) => {
    if (!isWarned) warn(message);
    isWarned = true;
  };
}
