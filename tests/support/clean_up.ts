/** What has an end at which something is cleaned up: a test, or a part of a benchmark. */
export interface TestScope {
  after(cleanUp: () => unknown): void;
}

const scopes = new WeakMap<TestScope, (() => unknown)[]>();

/**
 * Has something done at the end of a test: the last begun is ended first, one after the other, and
 * all of it also where one fails.
 *
 * A test's own `after` is called by nothing else. It begins with the first, so that a program would
 * lose its folder while it still runs, and what fails keeps all that follows from being done: a
 * program that lives on then keeps the runner from ending for hours.
 */
export function cleanUp(t: TestScope, step: () => unknown): void {
  const known = scopes.get(t);
  if (known !== undefined) return void known.push(step);
  const steps = [step];
  scopes.set(t, steps);
  t.after(async () => {
    const errors: unknown[] = [];
    for (let next = steps.pop(); next !== undefined; next = steps.pop()) {
      try {
        await next();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 1) throw new AggregateError(errors, errors.join("\n"));
    if (errors.length === 1) throw errors[0];
  });
}
