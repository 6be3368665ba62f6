#!/bin/sh
# host-report.sh [--times N] [--every SECONDS] - the host's load, memory and disks, one sample after the other.
times=3
every=1

usage() {
  echo "usage: host-report.sh [--times N] [--every SECONDS], N from 1 to 99999, SECONDS from 0 to 99999" >&2
  exit 2
}

whole_number() {
  case $1 in '' | *[!0-9]* | ??????*) usage ;; esac
}

while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || usage
  whole_number "$2"
  case $1 in
    --times) times=$2 ;;
    --every) every=$2 ;;
    *) usage ;;
  esac
  shift 2
done
[ "$times" -ge 1 ] || usage

# What /proc and df say, in lines that read on their own.
sample() {
  echo "== $(date '+%Y-%m-%d %H:%M:%S %Z') on $(uname -n)"
  awk -v cpus="$(nproc)" '{ printf "load     %s %s %s (1, 5, 15 minutes) on %d CPUs\n", $1, $2, $3, cpus }' /proc/loadavg
  awk '
    $1 == "MemTotal:" { total = $2 }
    $1 == "MemAvailable:" { available = $2 }
    END { printf "memory   %.1f of %.1f GiB available (%.0f%%)\n", available / 1048576, total / 1048576, 100 * available / total }
  ' /proc/meminfo
  df -kP 2>/dev/null | awk '
    $1 ~ "^/" || $6 == "/" {
      if (!seen[$1]++) printf "disk     %s: %.1f of %.1f GiB free, %s used\n", $6, $4 / 1048576, $2 / 1048576, $5
    }
  '
}

while :; do
  sample
  times=$((times - 1))
  [ "$times" -gt 0 ] || break
  sleep "$every"
done
