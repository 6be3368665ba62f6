/*
 * wrapper.c - the wrapper of a run and its pump in one small program: what wrapper.sh does, in two processes. The pump is apart,
 * so that a SIGKILL to the wrapper costs no output; one that is killed itself is replaced.
 *
 *   hub-wrapper RUN_ID     runs the order on descriptor 0
 *   hub-wrapper --starter  starts wrappers (starter.c)
 *   hub-wrapper --check    prints the version of its protocol
 *
 * Descriptors: 0 the order (order-file.ts), 1 the log, open for appending, 2 nothing, 3 the folder of the run,
 * 4 `cgroup.procs` of the run's cgroup, if it has one. It reads no variable of its environment, which is that of the job,
 * follows no link in the folder, which belongs to the job's user, and waits for nothing there.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "wrapper.h"

enum { NOT_STARTED = 75, OPEN_FILES = 1024 };
enum { SETTLE_MS = 2000, FIRST_LOOK_MS = 20, LOOK_MS = 100, RETRY_MS = 1000 };
/* More than all words that the kernel takes for one program. */
static const size_t MAX_ORDER = 32u << 20;

struct order {
  int has_cgroup;
  int has_limit;
  uint64_t limit;
  const char *mark, *end_line, *lost_line;
  char **argv;
};

static void refuse(void) { _exit(NOT_STARTED); }

/* ---- the order ---- */

static char *read_order(size_t *length) {
  struct stat st;
  if (fstat(ORDER_FD, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size <= 0 || (size_t)st.st_size > MAX_ORDER) refuse();
  size_t size = (size_t)st.st_size, at = 0;
  char *bytes = malloc(size);
  if (!bytes) refuse();
  while (at < size) {
    ssize_t n = pread(ORDER_FD, bytes + at, size - at, (off_t)at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) refuse();
    at += (size_t)n;
  }
  *length = size;
  return bytes;
}

/* Fields that each end with a NUL: version, cgroup, limit, mark, end line, lost line, number of words, the words, "end". */
static void parse_order(struct order *order) {
  size_t length;
  char *bytes = read_order(&length);
  if (bytes[length - 1] != '\0') refuse();
  size_t count = 0;
  for (size_t i = 0; i < length; i++) count += bytes[i] == '\0';
  char **fields = malloc((count + 1) * sizeof *fields);
  if (!fields || count < 9) refuse();
  char *at = bytes;
  for (size_t i = 0; i < count; i++) {
    fields[i] = at;
    at += strlen(at) + 1;
  }
  if (strcmp(fields[0], "hub-order 1") != 0 || strcmp(fields[count - 1], "end") != 0) refuse();
  if (strtoull(fields[6], NULL, 10) != count - 8) refuse();
  order->has_cgroup = fields[1][0] != '\0';
  order->has_limit = fields[2][0] != '\0';
  order->limit = strtoull(fields[2], NULL, 10);
  order->mark = fields[3];
  order->end_line = fields[4];
  order->lost_line = fields[5];
  order->argv = fields + 7;
  fields[count - 1] = NULL;
  if (order->argv[0][0] != '/') refuse();
}

/* ---- what a run has, and does not inherit ---- */

static void set_soft_limit(int resource, rlim_t soft) {
  struct rlimit limit;
  if (getrlimit((__rlimit_resource_t)resource, &limit) != 0 || soft > limit.rlim_max) return;
  limit.rlim_cur = soft;
  setrlimit((__rlimit_resource_t)resource, &limit);
}

/* Those of faults, too, when they are sent: a core dump ends all processes that share their memory. A fault itself still ends it. */
static void outlive_signals(void) {
  for (int signal = 1; signal <= SIGNALS; signal++) set_action(signal, signal == SIGCHLD ? SIG_DFL : SIG_IGN);
}

static void close_from(int first) {
#ifdef SYS_close_range
  if (syscall(SYS_close_range, first, ~0u, 0) == 0) return;
#endif
  for (int fd = first; fd < 65536; fd++) close(fd);
}

/* ---- the folder of the run ---- */

/* The exit code in three places, at the beginning of a file that has space for it; a newline behind it once the run is over. */
static void write_exit(int code, int is_over) {
  struct stat st;
  int fd = openat(FOLDER_FD, "exit", O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
  if (fd < 0) return;
  char text[8];
  int length = snprintf(text, sizeof text, is_over ? "%3d\n" : "%3d", code);
  if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) write_all(fd, text, (size_t)length);
  close(fd);
}

static const char *errno_name(int error) {
  switch (error) {
  case ENOENT: return "ENOENT";
  case EACCES: return "EACCES";
  case E2BIG: return "E2BIG";
  case ENOEXEC: return "ENOEXEC";
  case ENOMEM: return "ENOMEM";
  case ELOOP: return "ELOOP";
  case ENOTDIR: return "ENOTDIR";
  case ETXTBSY: return "ETXTBSY";
  case EPERM: return "EPERM";
  case EIO: return "EIO";
  case EINVAL: return "EINVAL";
  default: return NULL;
  }
}

/* ---- the command ---- */

/* In the child, until its exec, with the memory of the wrapper, which waits. */
static void run_command(const struct order *order, int output, int null, int started) {
  extern char **environ;
  setpgid(0, 0);
  /* Without this line nothing of the command has run. If it cannot be written, nothing starts. */
  if (write_all(started, "command\n", 8) != 0) _exit(NOT_STARTED);
  if (dup2(null, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0) _exit(NOT_STARTED);
  close(FOLDER_FD);
  for (int signal = 1; signal <= SIGNALS; signal++) set_action(signal, SIG_DFL);
  set_mask(0);
  execve(order->argv[0], order->argv, environ);
  int error = errno;
  if (error == ENOEXEC) {
    /* A file without a first line that names its interpreter: as execvp(3) and every shell do. */
    size_t words = 0;
    while (order->argv[words]) words++;
    char **with_shell = malloc((words + 2) * sizeof *with_shell);
    if (with_shell) {
      with_shell[0] = "/bin/sh";
      memcpy(with_shell + 1, order->argv, (words + 1) * sizeof *with_shell);
      execve("/bin/sh", with_shell, environ);
    }
  }
  char line[32];
  const char *name = errno_name(error);
  int length = name ? snprintf(line, sizeof line, "error %s\n", name) : snprintf(line, sizeof line, "error E%d\n", error);
  write_all(started, line, (size_t)length);
  _exit(error == ENOENT ? 127 : 126);
}

/* ---- the pump ---- */

/* What a pump has done: the wrapper and the pump that replaces it go by it. */
struct done {
  uint64_t written;
  int is_lost, is_full, is_end_written;
  /* From before a read until what was read is in the log. */
  int is_copying;
};

struct pump {
  const struct order *order;
  int input;
  volatile struct done *done;
};

static char buffer[65536];
static char pump_stack[65536] __attribute__((aligned(16)));

static void write_end_line(const struct pump *pump) {
  if (pump->done->is_full && !pump->done->is_end_written)
    pump->done->is_end_written = write_all(LOG_FD, pump->order->end_line, strlen(pump->order->end_line)) == 0;
}

/* What cannot be written is dropped. The next piece that can be is preceded by a line that reports it. */
static void append(const struct pump *pump, size_t length) {
  volatile struct done *done = pump->done;
  if (done->is_full) {
    write_end_line(pump);
    return;
  }
  if (done->is_lost) {
    size_t line = strlen(pump->order->lost_line);
    size_t missing = write_all(LOG_FD, pump->order->lost_line, line);
    done->written += line - missing;
    if (missing != 0) return;
    done->is_lost = 0;
  }
  size_t keep = length;
  if (pump->order->has_limit) {
    uint64_t room = done->written < pump->order->limit ? pump->order->limit - done->written : 0;
    if (length > room) keep = (size_t)room;
  }
  size_t missing = write_all(LOG_FD, buffer, keep);
  done->written += keep - missing;
  if (missing != 0)
    done->is_lost = 1;
  else if (keep < length) {
    done->is_full = 1;
    write_end_line(pump);
  }
}

/* Copies until all writers of the pipe have ended. */
static void run_pump(const struct pump *pump) {
  volatile struct done *done = pump->done;
  /* The one before may have been killed while it copied. */
  done->is_copying = 0;
  for (;;) {
    struct pollfd fd = {pump->input, POLLIN, 0};
    int found = poll(&fd, 1, done->is_full && !done->is_end_written ? RETRY_MS : -1);
    if (found == 0) write_end_line(pump);
    if (found <= 0) continue;
    done->is_copying = 1;
    ssize_t n = read(pump->input, buffer, sizeof buffer);
    if (n > 0) append(pump, (size_t)n);
    done->is_copying = 0;
    if (n == 0) break;
  }
  write_end_line(pump);
  _exit(0);
}

static int pump_main(void *given) {
  struct pump pump = *(const struct pump *)given;
  /* The end to write of the pipe above all: the output would never end. */
  dup2(pump.input, FOLDER_FD);
  pump.input = FOLDER_FD;
  close_from(CGROUP_FD);
  if (chdir("/") != 0) { /* It then keeps the folder of the command busy. */
  }
  run_pump(&pump);
  return 0;
}

/*
 * A process that shares the memory of the wrapper, and nothing else: fork(2) would copy its page tables, and then each page that
 * either writes to. They share errno, too, so that neither may conclude much from it.
 */
static pid_t start_pump(const struct pump *pump) {
  return clone(pump_main, pump_stack + sizeof pump_stack, CLONE_VM | SIGCHLD, (void *)pump);
}

/* In this order: what is no longer in the pipe is being copied, or is in the log. */
static int is_drained(const struct pump *pump) {
  int left = 1;
  return ioctl(pump->input, FIONREAD, &left) == 0 && left == 0 && !pump->done->is_copying;
}

/* ---- whether anything works that can still write ---- */

static int holds(const char *pid, const char *fd, const struct stat *pipe) {
  char path[64];
  struct stat st;
  snprintf(path, sizeof path, "/proc/%s/fd/%s", pid, fd);
  return stat(path, &st) == 0 && st.st_ino == pipe->st_ino && st.st_dev == pipe->st_dev;
}

/* Adds to `seen` how often the process has been woken. Returns whether it runs or waits for a disk. */
static int look_at(const char *pid, uint64_t *seen) {
  char path[64], line[256];
  int is_running = 0;
  snprintf(path, sizeof path, "/proc/%s/status", pid);
  FILE *file = fopen(path, "re");
  if (!file) return 0;
  while (fgets(line, sizeof line, file)) {
    char state;
    unsigned long long switches;
    if (sscanf(line, "State: %c", &state) == 1) is_running = state == 'R' || state == 'D';
    if (sscanf(line, "voluntary_ctxt_switches: %llu", &switches) == 1 ||
        sscanf(line, "nonvoluntary_ctxt_switches: %llu", &switches) == 1)
      *seen = (*seen ^ (strtoull(pid, NULL, 10) << 32) ^ switches) * 1099511628211u;
  }
  fclose(file);
  return is_running;
}

static int is_busy(const struct pump *pump, uint64_t *before) {
  struct stat pipe;
  DIR *proc = opendir("/proc");
  if (!proc || fstat(pump->input, &pipe) != 0) {
    if (proc) closedir(proc);
    return 1;
  }
  uint64_t seen = 1469598103934665603u;
  int is_running = 0;
  for (struct dirent *entry; !is_running && (entry = readdir(proc));) {
    if (!isdigit((unsigned char)entry->d_name[0]) || strlen(entry->d_name) > 10) continue;
    if (holds(entry->d_name, "1", &pipe) || holds(entry->d_name, "2", &pipe)) is_running = look_at(entry->d_name, &seen);
  }
  closedir(proc);
  int is_changed = seen != *before;
  *before = seen;
  return is_running || is_changed;
}

static int64_t now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* ---- the run ---- */

/* The wrapper's children. */
struct children {
  int signals;
  pid_t command, pump;
  int has_ended, is_pump_over, code;
};

static void reap(struct children *children, const struct pump *pump) {
  int status;
  struct signalfd_siginfo ignored;
  while (read(children->signals, &ignored, sizeof ignored) > 0) continue;
  for (pid_t found; (found = waitpid(-1, &status, WNOHANG)) > 0;) {
    if (found == children->command) {
      children->has_ended = 1;
      children->code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    } else if (found == children->pump) {
      children->pump = WIFEXITED(status) ? -1 : start_pump(pump);
      children->is_pump_over = children->pump < 0;
    }
  }
}

static int supervise(struct children *children, const struct pump *pump) {
  int is_code_written = 0;
  int64_t look_at_ms = 0, until_ms = 0;
  uint64_t seen = 0;
  for (;;) {
    int64_t wait = -1;
    if (is_code_written) {
      wait = look_at_ms - now_ms();
      if (wait < 0) wait = 0;
    }
    struct pollfd fd = {children->signals, POLLIN, 0};
    poll(&fd, 1, (int)wait);
    reap(children, pump);
    if (!children->has_ended) continue;
    if (!is_code_written) {
      is_code_written = 1;
      until_ms = now_ms() + SETTLE_MS;
      look_at_ms = now_ms() + FIRST_LOOK_MS;
      write_exit(children->code, 0);
    }
    int64_t now = now_ms();
    if (children->is_pump_over || now >= until_ms || (now >= look_at_ms && is_drained(pump) && !is_busy(pump, &seen))) {
      write_exit(children->code, 1);
      return children->code;
    }
    if (now >= look_at_ms) look_at_ms = now + LOOK_MS;
  }
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "--check") == 0) return puts("hub-wrapper 2") < 0;
  if (argc == 2 && strcmp(argv[1], "--starter") == 0) return run_starter();
  /* The pump reads all three, also once this function has returned. */
  static struct order order;
  static struct done done;
  static struct pump pump;
  struct stat st;
  parse_order(&order);
  if (fstat(FOLDER_FD, &st) != 0 || !S_ISDIR(st.st_mode) || fstat(LOG_FD, &st) != 0) refuse();
  outlive_signals();
  if (order.has_cgroup && write_all(CGROUP_FD, "0\n", 2) != 0) refuse();
  close(CGROUP_FD);
  close_from(FIRST_FREE_FD);
  set_soft_limit(RLIMIT_NOFILE, OPEN_FILES);
  if (order.mark[0] != '\0') set_soft_limit(RLIMIT_LOCKS, strtoull(order.mark, NULL, 10));

  int output[2];
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  set_mask(1ull << (SIGCHLD - 1));
  int signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
  if (null < 0 || signals < 0 || pipe2(output, O_CLOEXEC) != 0) refuse();

  /* The order was read. The pump, which may live long, keeps none of the disk that it is on. */
  dup2(null, 0);
  dup2(null, 2);

  /* O_EXCL: one claimant wins, once and for all. */
  int started = openat(FOLDER_FD, "started", O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (started < 0) refuse();
  char claim[32];
  int length = snprintf(claim, sizeof claim, "%ld 2\n", (long)getpid());
  if (write_all(started, claim, (size_t)length) != 0) refuse();

  /* First, so that a SIGKILL to this process never leaves a command without a reader of its output. */
  pump = (struct pump){&order, output[0], &done};
  struct children children = {signals, -1, start_pump(&pump), 0, 0, 0};
  if (children.pump < 0) refuse();
  children.command = vfork();
  if (children.command == 0) run_command(&order, output[1], null, started);
  close(started);
  close(output[1]);
  if (children.command < 0) refuse();
  setpgid(children.command, children.command);
  close(null);
  if (chdir("/") != 0) { /* It then keeps the folder of its command busy. */
  }
  return supervise(&children, &pump);
}
