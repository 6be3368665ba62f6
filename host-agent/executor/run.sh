#!/bin/sh
# run.sh RUN_DIR COMMAND [ARG...] - the wrapper of version 1.0, for an agent of that version that still runs while these
# files are replaced. To be removed with the next version; wrapper.sh is the present one.
#
# It claims the run, so that nobody else can start it or declare it dead; runs
# the command; and keeps its exit code, also when nothing else of the host-agent
# is alive. COMMAND is an absolute path, so that it can be no shell builtin.
dir=$1
shift

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
