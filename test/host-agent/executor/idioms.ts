/** A way in which real scripts are written; the script runs in an empty folder as ./idiom.sh. Output that differs each time is not printed. */
export interface Idiom {
  name: string;
  script: string;
  /** A program without which there is nothing to compare. */
  needs?: string;
}

const perl = "perl";
const python = "python3";

/** Collected from shell manuals, style guides, init scripts, CI systems and questions about cron, ssh and nohup. */
export const IDIOMS: readonly Idiom[] = [
  { name: "exit 0", script: "echo done; exit 0" },
  ...[1, 2, 42, 64, 75, 100, 125, 126, 127, 128, 130, 137, 143, 200, 255].map((code) => ({
    name: `exit ${code}`,
    script: `echo out; exit ${code}`,
  })),
  { name: "set -e stops at the first failure", script: "set -e\necho a; false; echo b" },
  { name: "set -euo pipefail", script: "set -euo pipefail\necho a | grep b | cat; echo c" },
  { name: "set -u and an unset variable", script: 'set -u\necho "$nothing"; echo after' },
  { name: "an error trap", script: "trap 'echo failed at $LINENO' ERR\nfalse\ntrue" },
  { name: "an exit trap", script: "trap 'echo bye' EXIT\necho hi; exit 3" },
  { name: "an exit trap that changes the code", script: "trap 'exit 9' EXIT\nexit 3" },
  {
    name: "a trap of TERM to itself",
    script: "trap 'echo term; exit 7' TERM\nkill -TERM $$; sleep 1; echo late",
  },
  { name: "TERM to itself", script: "echo a; kill -TERM $$; echo b" },
  { name: "INT to itself", script: "echo a; kill -INT $$; sleep 1; echo b" },
  { name: "KILL to itself", script: "echo a; kill -KILL $$; echo b" },
  { name: "SEGV to itself", script: "ulimit -c 0; echo a; kill -SEGV $$; echo b" },
  { name: "PIPE to itself", script: "echo a; kill -PIPE $$; echo b" },
  { name: "USR1 to itself", script: "kill -USR1 $$; echo b" },
  { name: "a real-time signal to itself", script: "kill -RTMIN+3 $$; echo b" },
  { name: "kill 0", script: "trap 'echo got; exit 5' TERM\nkill 0; echo after" },
  { name: "kill -9 0", script: "echo a; kill -9 0; echo b" },
  { name: "kill -9 0 at the exit", script: "trap 'kill -9 0' EXIT\necho a" },
  { name: "kill -- -$$", script: "echo a; kill -- -$$; echo b" },
  {
    name: "the clean-up of all children",
    script: `trap 'trap - TERM; kill -- -$$' EXIT TERM\nsleep 300 & sleep 300 & echo started; exit 4`,
  },
  { name: "jobs -p and kill", script: "sleep 300 & sleep 300 & kill $(jobs -p); wait; echo all ended" },
  { name: "wait for one job", script: "(exit 6) & wait $!; echo $?" },
  {
    name: "wait -n",
    script: "(sleep 0.1; exit 3) & sleep 300 & one=$!; wait -n; echo $?; kill $one; wait; exit 2",
  },
  { name: "a background job that outlives the script", script: "sleep 300 & echo started; exit 0" },
  { name: "nohup", script: "nohup sleep 300 >nohup.log 2>&1 & echo started" },
  { name: "nohup without redirection", script: "nohup sh -c 'echo from nohup'; echo $?" },
  { name: "setsid", script: "setsid sleep 300 & sleep 0.1; echo started" },
  { name: "setsid --wait", script: "setsid --wait sh -c 'exit 8'; echo $?" },
  { name: "disown", script: "sleep 300 & disown; echo started" },
  { name: "a double fork", script: "( (sleep 300 &) ); echo started" },
  {
    name: "a daemon with its descriptors closed",
    script: "(setsid sleep 300 </dev/null >/dev/null 2>&1 &); echo started",
  },
  {
    name: "coproc",
    script: "coproc cat; echo hi >&${COPROC[1]}; read -r line <&${COPROC[0]}; echo got $line",
  },
  {
    name: "a filter behind its output",
    script: `exec > >(sed 's/^/log: /') 2>&1\necho a; echo b >&2; exit 3`,
  },
  {
    name: "tee behind its output",
    script: "exec > >(tee copy.log) 2>&1\necho a; echo b >&2; sleep 0.2; wc -l <copy.log",
  },
  { name: "descriptor 3 for messages", script: "exec 3>&1 >quiet.log\necho hidden; echo shown >&3" },
  { name: "swap of stdout and stderr", script: "(echo out; echo err >&2) 3>&1 1>&2 2>&3" },
  { name: "stderr by path", script: "echo a; echo b >/dev/stderr; echo c" },
  { name: "stdout by path", script: "echo a; echo b >/dev/stdout; echo c" },
  { name: "stderr by descriptor path", script: "echo a; echo b >/dev/fd/2; echo c >/proc/self/fd/1; echo d" },
  { name: "tee to stderr", script: "echo a; echo b | tee /dev/stderr; echo c" },
  { name: "both to stdout by path", script: "echo a; ls /nowhere &>/dev/stdout; echo c" },
  {
    name: "no terminal",
    script:
      "tty; test -t 0 || echo no stdin; test -t 1 || echo no stdout; (: </dev/tty) 2>/dev/null || echo no tty",
  },
  { name: "read from stdin", script: 'read -r line; echo "$? <$line>"' },
  { name: "cat of stdin", script: "cat; echo end" },
  { name: "read with a default", script: 'read -r -t 1 -p "Go on? " answer || answer=y; echo "$answer"' },
  {
    name: "a here-document",
    script: 'name=x; cat <<END\nhello $name\n$(echo sub)\nEND\ncat <<"END"\n$name\nEND',
  },
  { name: "a here-string", script: 'wc -c <<<"abc"' },
  { name: "process substitution", script: "diff <(seq 3) <(seq 4); echo $?" },
  { name: "a pipeline's codes", script: "false | true | (exit 3); echo ${PIPESTATUS[@]}" },
  { name: "the exit of a subshell", script: "(exit 12); echo $?; ( set -e; false; echo no ); echo $?" },
  { name: "exec of another program", script: "echo a; exec sh -c 'echo b; exit 11'" },
  {
    name: "exec -a",
    script: 'exec -a other-name sh -c \'tr "\\0" " " </proc/$$/cmdline | cut -c1-10; exit 3\'',
  },
  { name: "a command that is not found", script: "no-such-program-here; echo $?" },
  { name: "a file that is not executable", script: "echo >plain; ./plain; echo $?" },
  { name: "a syntax error", script: "echo a\nif then\necho b" },
  { name: "binary output", script: `printf '\\0\\1\\377\\200\\r\\n\\033[31m'; head -c 1000 /dev/zero` },
  { name: "no newline at the end", script: "printf 'no newline'" },
  { name: "nothing at all", script: ":" },
  { name: "a very long line", script: "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end" },
  { name: "many short lines", script: "seq 1 50000" },
  { name: "a pipe that is closed early", script: "yes | head -n 2; echo ${PIPESTATUS[0]}" },
  {
    name: "timeout(1)",
    script: "timeout 0.2 sleep 60; echo $?; { timeout -s KILL 0.2 sleep 60; } 2>/dev/null; echo $?",
  },
  {
    name: "timeout of a shell with children",
    script: "timeout 0.3 sh -c 'sleep 60 & wait'; echo $?; pkill -s 0 sleep; :",
  },
  {
    name: "xargs -P",
    script:
      "seq 1 20 | xargs -P 4 -n 1 sh -c 'echo $0' | sort -n | tail -n 2; echo a b | xargs -n1 false; echo $?",
  },
  {
    name: "flock of one instance",
    script: `exec 9>lock; flock -n 9 && echo locked; flock -n lock -c 'echo twice' || echo busy`,
    needs: "flock",
  },
  {
    name: "one instance by pgrep",
    script: `[ "$(pgrep -fc "$PWD/idiom.sh")" -gt 1 ] && { echo running; exit 1; }; echo alone`,
    needs: "pgrep",
  },
  { name: "one instance by pidof", script: 'pidof -x "$PWD/idiom.sh" | wc -w', needs: "pidof" },
  {
    name: "its own name in ps",
    script: `ps -o args= -p $$ | sed "s|$PWD|.|g"; ps -o stat= -p $$ | cut -c1`,
    needs: "ps",
  },
  {
    name: "its process group",
    script: `[ "$(ps -o pgid= -p $$ | tr -d ' ')" = $$ ] && echo leads its group`,
    needs: "ps",
  },
  { name: "a pid file", script: `echo $$ >pid; [ "$(cat pid)" = $$ ] && kill -0 "$(cat pid)" && echo alive` },
  { name: "mkfifo", script: "mkfifo f; (echo through >f &) ; cat f" },
  {
    name: "script(1)",
    script: "script -qec 'echo in a terminal; exit 3' /dev/null | tr -d '\\r'; echo ${PIPESTATUS[0]}",
    needs: "script",
  },
  { name: "umask", script: "umask 077; umask; echo >f; stat -c %a f" },
  {
    name: "ulimit",
    script: "ulimit -S -n; ulimit -n 256; ulimit -n; ulimit -c; ulimit -f; ulimit -u >/dev/null && echo ok",
  },
  {
    name: "a limit of file size",
    script: "ulimit -f 1; { (head -c 10000 /dev/zero >f); } 2>/dev/null; echo $?; stat -c %s f",
  },
  { name: "nice", script: "nice -n 5 nice; nice" },
  { name: "signals that it ignores", script: "grep SigIgn /proc/self/status; grep SigBlk /proc/self/status" },
  { name: "set -m", script: "exec 2>/dev/null; set -m; sleep 300 & kill %1; wait %1; echo $?" },
  { name: "bash -x", script: "set -x; echo a; [ 1 = 1 ]" },
  { name: "env -i", script: "env -i sh -c 'echo ${PATH:+path}; echo ${HOME:-no home}'" },
  { name: "arrays and printf", script: `a=("x y" z); printf '<%s>\\n' "\${a[@]}"` },
  { name: "a lock by mkdir", script: "mkdir lock && mkdir lock; echo $?" },
  { name: "retry with a sleep", script: "for i in 1 2 3; do [ $i = 3 ] && break; sleep 0.05; done; echo $i" },
  {
    name: "perl",
    script: `perl -e '$| = 1; print "a\\n"; warn "b\\n"; fork // die; wait; print "c\\n"; exit 13'`,
    needs: perl,
  },
  { name: "perl that dies", script: `perl -e 'die "no\\n"'; echo $?`, needs: perl },
  {
    name: "python",
    script: `python3 -c 'import sys; print("a", flush=True); print("b", file=sys.stderr, flush=True); sys.exit(14)'`,
    needs: python,
  },
  {
    name: "python with a child",
    script: `python3 -c 'import subprocess; print(subprocess.run(["sh", "-c", "echo child; exit 3"]).returncode)'`,
    needs: python,
  },
  {
    name: "node",
    script: "node -e 'console.log(1); console.error(2); process.exitCode = 15'",
    needs: "node",
  },
  { name: "awk", script: `seq 3 | awk '{ print > "/dev/stderr" } END { exit 5 }'` },
  { name: "dd to stdout", script: "echo a; echo bcd | dd of=/dev/stdout status=none; echo e" },
  {
    name: "su -c",
    script: "su -s /bin/sh nobody -c 'echo as nobody; exit 4' </dev/null; echo $?",
    needs: "su",
  },
  { name: "a subreaper's orphan", script: "(sleep 0.2; echo orphan) & exit 0" },
];
