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
  /** The successor was told to take charge, and is on probation. This process may take charge again. */
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
  | "abort";

/** A new state, and what has to be done. */
export interface Step {
  readonly state: State;
  readonly action?: Action | undefined;
}

type Named<Name> = Extract<State, { name: Name }>;
type Typed<Type> = Extract<Event, { type: Type }>;
type Rows = {
  readonly [Name in State["name"]]: {
    readonly [Type in Event["type"]]: (state: Named<Name>, event: Typed<Type>) => Step;
  };
};

const none = (state: State): Step => ({ state });
const stay = (action: Action) => (state: State): Step => ({ state, action });
const go = (name: "probation" | "serving" | "reloading" | "stopping", action?: Action) => (): Step => ({
  state: { name },
  action,
});
const keep =
  (name: "retiring" | "retired" | "stopping", action?: Action) => ({ successor }: { successor: Successor }): Step => ({
    state: { name, successor },
    action,
  });
const commit = (_: State, { successor }: Typed<"commit">): Step => ({ state: { name: "committed", successor } });
const passOn = (state: Named<"stopping">): Step => ({ state, action: state.successor === undefined ? "refuse" : "pass on" });

// deno-fmt-ignore: a table of one row a state. `none` also stands where an event cannot happen.
const rows: Rows = {
  waiting:   { reload: stay("queue"),   cancel: go("stopping", "decline"),  "take over": go("probation"), over:   none,                          commit: none, succeed: none,             fail: none,                          leave: none },
  probation: { reload: stay("queue"),   cancel: go("stopping", "announce"), "take over": none,            over:   go("serving", "begin queued"), commit: none, succeed: none,             fail: none,                          leave: none },
  serving:   { reload: go("reloading", "begin"), cancel: go("stopping"),    "take over": none,            over:   none,                          commit: none, succeed: none,             fail: none,                          leave: none },
  reloading: { reload: stay("queue"),   cancel: go("stopping", "abort"),    "take over": none,            over:   none,                          commit,       succeed: none,             fail: go("serving", "begin queued"), leave: none },
  committed: { reload: stay("queue"),   cancel: keep("stopping", "abort"),  "take over": none,            over:   none,                          commit: none, succeed: keep("retiring"), fail: go("serving", "begin queued"), leave: none },
  retiring:  { reload: stay("pass on"), cancel: keep("stopping"),           "take over": none,            over:   none,                          commit: none, succeed: none,             fail: none,                          leave: keep("retired") },
  retired:   { reload: stay("pass on"), cancel: none,                       "take over": none,            over:   none,                          commit: none, succeed: none,             fail: none,                          leave: none },
  stopping:  { reload: passOn,          cancel: none,                       "take over": none,            over:   none,                          commit: none, succeed: none,             fail: none,                          leave: none },
};

/** What an event does in a state. */
export function next(state: State, event: Event): Step {
  // The two lookups agree: TypeScript cannot follow that the function fits this very state and event.
  return (rows[state.name][event.type] as (state: State, event: Event) => Step)(state, event);
}

/** The state in which a process begins. */
export function initial(hasPredecessor: boolean): State {
  return { name: hasPredecessor ? "waiting" : "serving" };
}

/** The process to which this one passes on what it is asked to do. */
export function successorOf(state: State): Successor | undefined {
  return "successor" in state ? state.successor : undefined;
}
