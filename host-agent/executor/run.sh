#!/bin/sh
# run.sh [-g] RUN_DIR COMMAND [ARG...] - the wrapper that owns one run.
#
# With -g descriptor 4 is the cgroup.procs of the run's cgroup, opened by the
# agent, whose rights count there: a process that writes 0 enters the cgroup.
#
# It claims the run, so that nobody else can start it or declare it dead; runs
# the command; and keeps its exit code, also when nothing else of the host-agent
# is alive. COMMAND is an absolute path, so that it can be no shell builtin.
in_cgroup=
[ "$1" = -g ] && in_cgroup=1 && shift
dir=$1
shift

# Before the claim: a run that is claimed has all its processes in its cgroup.
if [ -n "$in_cgroup" ]; then
  { echo 0 >&4; } 2>/dev/null || exit 75
  exec 4>&-
fi

# A handler that does nothing, and not '', which the command would inherit: the
# command gets the default action and the wrapper outlives it.
trap : TERM INT HUP QUIT USR1 USR2 ALRM PIPE

# Node raises the soft limit to the hard one for itself and all that it starts: programs that use select(2) break above 1024
# descriptors. A command may raise it again, up to the hard limit. A hard limit below it stays.
ulimit -S -n 1024 2>/dev/null

# noclobber makes this an open with O_EXCL: one claimant wins, once and for all.
set -C
{ echo "$$" >"$dir/started"; } 2>/dev/null || exit 75
set +C

# The descriptor of the folder, where there is one, is not the command's business.
"$@" 3<&-
code=$?

# The file exists and is larger than this: overwriting needs no free space on the disk.
# If it is gone, that is no matter for the command's log.
{ printf '%3d\n' "$code" 1<>"$dir/exit"; } 2>/dev/null
exit "$code"
