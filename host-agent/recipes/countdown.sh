#!/bin/sh
# countdown.sh [--seconds N] - one line a second, then "done"; ends at once on a signal.
seconds=10

usage() {
  echo "usage: countdown.sh [--seconds N], N from 0 to 86400" >&2
  exit 2
}

while [ $# -gt 0 ]; do
  case $1 in
    --seconds) [ $# -ge 2 ] || usage; seconds=$2; shift 2 ;;
    *) usage ;;
  esac
done
case $seconds in '' | *[!0-9]* | ??????*) usage ;; esac
[ "$seconds" -le 86400 ] || usage

while [ "$seconds" -gt 0 ]; do
  echo "$seconds"
  sleep 1
  seconds=$((seconds - 1))
done
echo "done"
