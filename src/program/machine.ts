/** The states of one process of the program, and what every event does in each of them. */
import type { Successor } from "../reload/outgoing.ts";

/** The state of this process. */
export type State =
  /** A successor that was not told to take charge yet. */
  | { readonly name: "waiting" }
  /** In charge, but on probation: the predecessor may take charge again. */
  | { readonly name: "probation" }
  /** In charge. */
  | { readonly name: "serving" }
  /** In charge, with a reload under way. */
  | { readonly name: "reloading" }
  /**
   * The successor was told to take charge, and is on probation. This process may take charge again.
   */
  | { readonly name: "committed"; readonly successor: Successor }
  /** The successor is in charge for good. The handovers let go. */
  | { readonly name: "retiring"; readonly successor: Successor }
  /** The token is cancelled, because the successor is in charge. */
  | { readonly name: "retired"; readonly successor: Successor }
  /** The token is cancelled, because this process shuts down. */
  | { readonly name: "stopping"; readonly successor?: Successor | undefined };

/** What happens to this process. */
export type Event =
  /** A reload is asked for: by a signal, by the predecessor, or by the application. */
  | { readonly type: "reload" }
  /** The token is cancelled, by a signal, by the predecessor, or by the application. */
  | { readonly type: "cancel" }
  /** The predecessor has handed over, or is gone. */
  | { readonly type: "take over" }
  /** The reload that this process came from is over. */
  | { readonly type: "over" }
  /** The new process is told to take charge. */
  | { readonly type: "commit"; readonly successor: Successor }
  /** The new process has passed its probation. */
  | { readonly type: "succeed" }
  /** The reload has failed and is rolled back. */
  | { readonly type: "fail" }
  /** The handovers have let go. */
  | { readonly type: "leave" };

/** What the program has to do about an event. */
export type Action =
  /** Begin a reload. */
  | "begin"
  /** Remember that a reload was asked for. */
  | "queue"
  /** Begin the reload that was remembered, if there is one. */
  | "begin queued"
  /** Pass the reload on to the successor. */
  | "pass on"
  /** Report that no reload is possible any more. */
  | "refuse"
  /** Tell the predecessor that this process will not be ready. */
  | "decline"
  /** Tell the predecessor that this process shuts down on purpose. */
  | "announce"
  /** Abort the reload that is under way. */
  | "abort"
  /** Report an event that cannot happen in this state. */
  | "report";

/** A new state, and what has to be done. */
export interface Step {
  readonly state: State;
  readonly action?: Action | undefined;
}

type Named<Name> = Extract<State, { name: Name }>;
type Typed<Type> = Extract<Event, { type: Type }>;
/** What an event does in each state in which it can happen. */
type Rows = {
  readonly [Name in State["name"]]: {
    readonly [Type in Event["type"]]?: (state: Named<Name>, event: Typed<Type>) => Step;
  };
};

const ignore = (state: State): Step => ({ state });
const stay = (action: Action) => (state: State): Step => ({ state, action });
const go =
  (name: "probation" | "serving" | "reloading" | "stopping", action?: Action) => (): Step => ({
    state: { name },
    action,
  });
const keep =
  (name: "retiring" | "retired" | "stopping", action?: Action) =>
  ({ successor }: { successor: Successor }): Step => ({
    state: { name, successor },
    action,
  });
const commit = (_: State, { successor }: Typed<"commit">): Step => ({
  state: { name: "committed", successor },
});
const passOn = (state: Named<"stopping">): Step => ({
  state,
  action: state.successor === undefined ? "refuse" : "pass on",
});

// deno-fmt-ignore: a table of one row a state.
const rows: Rows = {
  waiting:   { reload: stay("queue"),            cancel: go("stopping", "decline"),  "take over": go("probation") },
  probation: { reload: stay("queue"),            cancel: go("stopping", "announce"), over: go("serving", "begin queued") },
  serving:   { reload: go("reloading", "begin"), cancel: go("stopping") },
  reloading: { reload: stay("queue"),            cancel: go("stopping", "abort"),    commit, fail: go("serving", "begin queued") },
  committed: { reload: stay("queue"),            cancel: keep("stopping", "abort"),  succeed: keep("retiring"),
                                                                                     fail: go("serving", "begin queued") },
  retiring:  { reload: stay("pass on"),          cancel: keep("stopping"),           leave: keep("retired") },
  retired:   { reload: stay("pass on"),          cancel: ignore },
  stopping:  { reload: passOn,                   cancel: ignore,                     "take over": ignore, over: ignore,
                                                                                     succeed: ignore, fail: ignore, leave: ignore },
};

/**
 * What an event does in a state. One that has no cell cannot happen; the property tests of the
 * program fail where one does.
 */
export function next(state: State, event: Event): Step {
  // The two lookups agree: TypeScript cannot follow that the function fits this very state and
  // event.
  const cell = rows[state.name][event.type] as ((state: State, event: Event) => Step) | undefined;
  return cell === undefined ? { state, action: "report" } : cell(state, event);
}

/** The state in which a process begins. */
export function initial(hasPredecessor: boolean): State {
  return { name: hasPredecessor ? "waiting" : "serving" };
}

/** The process to which this one passes on what it is asked to do. */
export function successorOf(state: State): Successor | undefined {
  return "successor" in state ? state.successor : undefined;
}
