import { Component, type ComponentType, createElement, type FunctionComponent } from "preact";

/** A component that is drawn again only when one of its properties has another value. */
export function memo<P extends object>(inner: FunctionComponent<P>): ComponentType<P> {
  return class extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>): boolean {
      const names = Object.keys(next) as (keyof P)[];
      return names.some((name) => !Object.is(next[name], this.props[name as never]));
    }

    override render() {
      return createElement(inner, this.props as never);
    }
  };
}
