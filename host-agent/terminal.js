// The program of terminal mode is executor/terminal.js. An agent of version 1.0 that still runs while these files are
// replaced starts it from this path. To be removed with the next version.
await import("./executor/terminal.js");
