import { useEffect, useReducer } from "preact/hooks";

/** A value that components can watch. */
export interface Store<T> {
  get(): T;
  /** Calls the watchers, unless it is the same value. */
  set(value: T): void;
  watch(onChange: () => void): () => void;
}

/** A store with this value. */
export function createStore<T>(initial: T): Store<T> {
  let value = initial;
  const watchers = new Set<() => void>();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const watcher of watchers) watcher();
    },
    watch(onChange) {
      watchers.add(onChange);
      return () => watchers.delete(onChange);
    },
  };
}

/** The store's value; the component is drawn again when it changes. */
export function useStore<T>(store: Store<T>): T {
  const [, redraw] = useReducer((count: number, _changed: void) => count + 1, 0);
  useEffect(() => {
    redraw();
    return store.watch(() => redraw());
  }, [store]);
  return store.get();
}
