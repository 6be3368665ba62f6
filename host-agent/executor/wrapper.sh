#!/bin/sh
# wrapper.sh RUN_ID - the wrapper that owns one run.
#
# It claims the run, so that nobody else can start it or declare it dead; runs the command, which writes into a pipe; has
# a pump that appends what comes out of the pipe to the log; and keeps the exit code, also when nothing else of the
# host-agent is alive.
#
# Descriptors: 0 the order (order-file.ts), 1 the log, open for appending, 2 nothing, 3 the folder of the run under
# HUB_RUN_AS, 4 `cgroup.procs` of the run's cgroup, if it has one. The command line has the id only, so that what a job is
# called, and its arguments, are in one command line of the host. All names begin with hub_: a variable that the job's
# environment has as well would be changed for the job, too.

# A handler that does nothing, and not '', which the command would inherit: the command gets the default action and the
# wrapper outlives it.
trap : TERM INT HUP QUIT USR1 USR2 ALRM PIPE

hub_complete=
. /proc/self/fd/0 || exit 75
[ "$hub_complete" = yes ] || exit 75
exec 0</dev/null

if [ -n "$hub_cgroup" ]; then
  { echo 0 >&4; } 2>/dev/null || exit 75
fi
exec 4<&-

# Node raises the soft limit to the hard one for itself and all that it starts: programs that use select(2) break above 1024
# descriptors. A command may raise it again, up to the hard limit. A hard limit below it stays.
ulimit -S -n 1024 2>/dev/null
# The mark by which the processes of the run are found (run-mark.ts): this limit has had no effect since Linux 2.4. dash
# names it w, bash x.
[ -z "$hub_mark" ] || ulimit -S -w "$hub_mark" 2>/dev/null || ulimit -S -x "$hub_mark" 2>/dev/null

# A pipe: a here-document gives its end to read, and opening that again for writing gives the other one (pipe(7)). A shell
# that keeps here-documents elsewhere needs a FIFO.
exec 5<<END
END
if [ ! -p /proc/self/fd/5 ]; then
  "$hub_mkfifo" -m 600 "$hub_folder/output" 2>/dev/null && exec 5<>"$hub_folder/output" || exit 75
  "$hub_rm" -f "$hub_folder/output"
  exec 6>/proc/self/fd/5 7</proc/self/fd/5 5<&7 7<&-
else
  exec 6>/proc/self/fd/5 || exit 75
fi

# noclobber makes this an open with O_EXCL: one claimant wins, once and for all.
set -C
{ echo "$$ 2" >"$hub_folder/started"; } 2>/dev/null || exit 75
set +C

# Copies to the log until all writers of the pipe have ended, also while the disk of the log is full. It ignores what the job and
# the host send to the run; SIGKILL to its `cat` costs what that has read.
hub_pump() {
  trap '' TERM INT HUP QUIT USR1 USR2 ALRM PIPE XCPU
  exec 0<&5 3<&- 5<&- 6>&-
  cd /
  exec 8<&0
  while :; do
    hub_copy
    case $? in
    0) return ;;
    153)
      # SIGXFSZ: the log is as long as it may be.
      { printf '%s' "$hub_end_line"; } 2>/dev/null ||
        until "$hub_sleep" 1 && { printf '%s' "$hub_end_line"; } 2>/dev/null; do :; done &
      exec "$hub_cat" >/dev/null
      ;;
    esac
    hub_drop || return
  done
}

# What cannot be written is lost, until the line that reports it can be written. 1 when the output has ended before.
hub_drop() {
  "$hub_cat" <&8 >/dev/null &
  hub_dropper=$!
  while [ -e "/proc/$hub_dropper/fd/0" ]; do
    if { printf '%s' "$hub_lost_line"; } 2>/dev/null; then
      kill -KILL "$hub_dropper"
      wait "$hub_dropper"
      return 0
    fi
    "$hub_sleep" 0.2
  done
  return 1
}

# The kernel ends it at the limit, after exactly this number of bytes (setrlimit(2)): the shell knows the limit in blocks of 512.
hub_copy() (
  if [ -n "$hub_limit" ]; then
    ulimit -S -c 0 2>/dev/null
    if [ $((hub_limit % 512)) -eq 0 ]; then
      ulimit -S -f $((hub_limit / 512)) 2>/dev/null
    else
      exec "$hub_prlimit" "--fsize=$hub_limit:" "$hub_cat" 2>/dev/null
    fi
  fi
  exec "$hub_cat" 2>/dev/null
)

hub_pump &
hub_pump=$!

# The command leads a separate session, and so a separate process group: what it does to its group does not reach the wrapper.
# `command` in the file says that it is about to start: without it nothing of it has run. If that cannot be written, nothing starts.
(
  exec 5<&-
  { echo command >>"$hub_folder/started"; } 2>/dev/null || exit 75
  if [ ! -x "$1" ] || [ -d "$1" ]; then
    hub_why=EACCES
    [ -e "$1" ] || hub_why=ENOENT
    { echo "error $hub_why" >>"$hub_folder/started"; } 2>/dev/null
    exit 127
  fi
  exec 3<&- >&6 2>&6 6>&-
  exec "$hub_setsid" "$@"
)
hub_code=$?

# The file exists and is larger than this: overwriting needs no free space on the disk. The newline comes when the output
# has ended, and says that the run is over.
{ printf '%3d' "$hub_code" 1<>"$hub_folder/exit"; } 2>/dev/null
exec 5<&- 6>&-

# Whether anything works that can still write: a process whose stdout or stderr is the pipe, and that runs, waits for a disk,
# or has been woken since the last look.
hub_is_busy() {
  hub_before=$hub_now
  hub_now=
  for hub_process in /proc/[0-9]*; do
    [ "$hub_process/fd/1" -ef "/proc/$hub_pump/fd/0" ] || [ "$hub_process/fd/2" -ef "/proc/$hub_pump/fd/0" ] || continue
    while read -r hub_key hub_value hub_rest; do
      case $hub_key in
      State:) case $hub_value in R | D) return 0 ;; esac ;;
      voluntary_ctxt_switches: | nonvoluntary_ctxt_switches:) hub_now="$hub_now $hub_process:$hub_value" ;;
      esac
    done 2>/dev/null <"$hub_process/status"
  done
  [ "$hub_now" != "$hub_before" ]
}

# The output ends with the last process that can write to it, which most often is the command: within a millisecond.
hub_spins=0
while [ -e "/proc/$hub_pump/fd/0" ] && [ "$hub_spins" -lt 200 ]; do hub_spins=$((hub_spins + 1)); done
# Then two seconds at most, and only while one of the others works. The file is in seconds and hundredths.
hub_uptime() { IFS=' .' read -r hub_s hub_cs hub_rest </proc/uptime && hub_time=$((hub_s * 100 + ${hub_cs#0})); }
hub_time=0 hub_now=first hub_pause=0.02
hub_uptime
hub_until=$((hub_time + 200))
while [ -e "/proc/$hub_pump/fd/0" ] && [ "$hub_time" -lt "$hub_until" ]; do
  "$hub_sleep" "$hub_pause" 2>/dev/null
  # A look at all processes takes longer than most commands.
  [ -e "/proc/$hub_pump/fd/0" ] && hub_is_busy || break
  hub_pause=0.1
  hub_uptime || break
done

# If the folder is gone, that is no matter for the command's log.
{ printf '%3d\n' "$hub_code" 1<>"$hub_folder/exit"; } 2>/dev/null
exit "$hub_code"
