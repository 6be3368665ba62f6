// The console: the page at /console that lists, launches, follows and stops runs through the public API, with the key of
// its tab. This folder may import adapters/client and host-agent/protocol (limits.ts as values, the rest as types), so
// that the page stays small. All text from a log, a recipe or a script is shown through visible-text.ts.
import { render } from "preact";

import { App } from "./app.tsx";

render(<App />, document.getElementById("console")!);
