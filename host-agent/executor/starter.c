/*
 * starter.c - starts wrappers for the spawner (starter.ts). A start from here costs the exec: vfork(2) copies nothing of this process,
 * while Node has only fork(2), which copies the page tables of a large one.
 *
 *   hub-wrapper --starter
 *
 * Descriptor 0 has requests, each a length (four bytes, of this machine's order) and so many bytes: fields that each end with a NUL,
 * then the order of the wrapper (order-file.ts). The fields: id, uid, gid (both empty for those of this process), working folder,
 * descriptors of the log, the folder and `cgroup.procs` (empty for none) in the parent, program, run id, number of variables, the
 * variables.
 *
 * Descriptor 1 gets lines: `started ID PID STARTTIME`, `failed ID ERRNO` (nothing was started), `unreachable ID` (nothing was started:
 * this process may not open a descriptor of its parent), and `ended PID` for each wrapper, after its `started`.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "wrapper.h"

enum { REQUESTS_FD = 0, ANSWERS_FD = 1, RESERVED_FDS = 10, HEAD = 4, ENDED = 1 };
/* More than all words and variables that the kernel takes for one program. */
static const uint32_t MAX_REQUEST = 64u << 20;
/* Memory for requests above this is given back once they are served. */
static const size_t KEPT_BYTES = 1u << 20;

struct request {
  const char *id, *uid, *gid, *cwd, *log, *folder, *cgroup, *program, *run_id;
  char **env;
  const char *order;
  size_t order_length;
};

static void answer(const char *format, const char *id, long long first, const char *second) {
  char line[160];
  int length = snprintf(line, sizeof line, format, id, first, second);
  if (length < 0 || (size_t)length >= sizeof line || write_all(ANSWERS_FD, line, (size_t)length) != 0) _exit(ENDED);
}

/* ---- the descriptors of a wrapper ---- */

/* What the parent has open; it cannot be passed over a pipe of Node's. */
static int open_of_parent(const char *fd, int flags) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%ld/fd/%s", (long)getppid(), fd);
  return open(path, flags | O_CLOEXEC);
}

/* The order in memory: a file without a name, which is gone with the last descriptor. */
static int open_order(const char *order, size_t length) {
  /* MFD_NOEXEC_SEAL, which the kernel has since 6.3. */
  int fd = memfd_create("order", MFD_CLOEXEC | 8U);
  if (fd < 0 && errno == EINVAL) fd = memfd_create("order", MFD_CLOEXEC);
  if (fd < 0) return -1;
  /* At an offset: the wrapper reads from the descriptor's position, which stays 0. */
  for (size_t at = 0; at < length;) {
    ssize_t n = pwrite(fd, order + at, length - at, (off_t)at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      int error = n < 0 ? errno : ENOSPC;
      close(fd);
      errno = error;
      return -1;
    }
    at += (size_t)n;
  }
  return fd;
}

/* ---- a start ---- */

/* In the child, until its exec, with the memory of the parent, which waits. */
static void become_wrapper(const struct request *request, const int fds[], volatile int *error) {
  char *argv[] = {(char *)request->program, (char *)request->run_id, NULL};
  setsid();
  for (int signal = 1; signal <= SIGNALS; signal++) set_action(signal, SIG_DFL);
  set_mask(0);
  for (int fd = 0; fd < FIRST_FREE_FD; fd++)
    if (dup2(fds[fd], fd) < 0) goto failed;
  if (chdir(request->cwd) != 0) goto failed;
  if (request->uid[0] != '\0') {
    if (setgroups(0, NULL) != 0 || setgid((gid_t)strtoul(request->gid, NULL, 10)) != 0 ||
        setuid((uid_t)strtoul(request->uid, NULL, 10)) != 0)
      goto failed;
  }
  execve(request->program, argv, request->env);
failed:
  *error = errno;
  _exit(127);
}

static __attribute__((noinline)) pid_t start_wrapper(const struct request *request, const int fds[], volatile int *error) {
  *error = 0;
  pid_t pid = vfork();
  if (pid == 0) become_wrapper(request, fds, error);
  return pid;
}

/* Field 22 of its stat; a child that has ended has one until it is reaped. */
static const char *start_time_of(pid_t pid, char *buffer, size_t size) {
  snprintf(buffer, size, "/proc/%ld/stat", (long)pid);
  int fd = open(buffer, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : read(fd, buffer, size - 1);
  if (fd >= 0) close(fd);
  if (n <= 0) return "unknown";
  buffer[n] = '\0';
  /* The name is in parentheses and may contain anything, also ")". */
  char *at = strrchr(buffer, ')');
  for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
  if (!at) return "unknown";
  size_t length = strspn(at + 1, "0123456789");
  if (length == 0) return "unknown";
  at[1 + length] = '\0';
  return at + 1;
}

static void serve(const struct request *request, int null) {
  int log = open_of_parent(request->log, O_WRONLY | O_APPEND);
  int folder = open_of_parent(request->folder, O_RDONLY | O_DIRECTORY);
  int has_cgroup = request->cgroup[0] != '\0';
  int cgroup = has_cgroup ? open_of_parent(request->cgroup, O_WRONLY) : null;
  if (log < 0 || folder < 0 || cgroup < 0) {
    answer("unreachable %s\n", request->id, 0, "");
  } else {
    int order = open_order(request->order, request->order_length);
    int fds[FIRST_FREE_FD] = {order, log, null, folder, cgroup};
    volatile int error = errno;
    pid_t pid = order < 0 ? -1 : start_wrapper(request, fds, &error);
    if (order >= 0) {
      if (pid < 0) error = errno;
      close(order);
    }
    if (pid > 0 && error != 0) waitpid(pid, NULL, 0);
    char stat[1024];
    if (pid < 0 || error != 0)
      answer("failed %s %lld\n", request->id, error, "");
    else
      answer("started %s %lld %s\n", request->id, pid, start_time_of(pid, stat, sizeof stat));
  }
  if (log >= 0) close(log);
  if (folder >= 0) close(folder);
  if (has_cgroup && cgroup >= 0) close(cgroup);
}

/* ---- requests ---- */

static const char *next_field(const char **at, const char *end) {
  const char *field = *at;
  const char *nul = field < end ? memchr(field, '\0', (size_t)(end - field)) : NULL;
  /* The spawner writes whole requests only. */
  if (!nul) _exit(ENDED);
  *at = nul + 1;
  return field;
}

static void serve_bytes(const char *bytes, size_t length, int null) {
  const char *at = bytes, *end = bytes + length;
  struct request request;
  const char **fields[] = {&request.id,     &request.uid,    &request.gid,     &request.cwd,   &request.log,
                           &request.folder, &request.cgroup, &request.program, &request.run_id};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) *fields[i] = next_field(&at, end);
  size_t count = strtoull(next_field(&at, end), NULL, 10);
  if (count > length) _exit(ENDED);
  request.env = malloc((count + 1) * sizeof *request.env);
  if (!request.env) _exit(ENDED);
  for (size_t i = 0; i < count; i++) request.env[i] = (char *)next_field(&at, end);
  request.env[count] = NULL;
  request.order = at;
  request.order_length = (size_t)(end - at);
  serve(&request, null);
  free(request.env);
}

/* What has been read and not served yet. */
static struct {
  char *bytes;
  size_t length, size;
} input;

/* 0 once there will be no more requests. */
static int read_requests(void) {
  if (input.size - input.length < 65536) {
    input.size = input.size * 2 + 131072;
    input.bytes = realloc(input.bytes, input.size);
    if (!input.bytes) _exit(ENDED);
  }
  ssize_t n = read(REQUESTS_FD, input.bytes + input.length, input.size - input.length);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return 1;
  if (n <= 0) return 0;
  input.length += (size_t)n;
  return 1;
}

static void serve_requests(int null) {
  size_t at = 0;
  uint32_t length;
  while (input.length - at >= HEAD) {
    memcpy(&length, input.bytes + at, HEAD);
    if (length > MAX_REQUEST) _exit(ENDED);
    if (input.length - at - HEAD < length) break;
    serve_bytes(input.bytes + at + HEAD, length, null);
    at += HEAD + length;
  }
  input.length -= at;
  memmove(input.bytes, input.bytes + at, input.length);
  if (input.length > 0 || input.size <= KEPT_BYTES) return;
  free(input.bytes);
  input.bytes = NULL;
  input.size = 0;
}

static void report_ends(int signals) {
  struct signalfd_siginfo ignored;
  while (read(signals, &ignored, sizeof ignored) > 0) continue;
  for (pid_t pid; (pid = waitpid(-1, NULL, WNOHANG)) > 0;) answer("ended %s%lld\n", "", pid, "");
}

int run_starter(void) {
  pid_t parent = getppid();
  /* Also while it is stopped, when it does not see that its parent has ended. */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) return ENDED;
  for (int signal = 1; signal <= SIGNALS; signal++)
    /* As the spawner: a signal to the group of the agent ends neither before the agent. */
    if (signal == SIGINT || signal == SIGTERM || signal == SIGHUP || signal == SIGPIPE) set_action(signal, SIG_IGN);
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  set_mask(1ull << (SIGCHLD - 1));
  int signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
  /* So that nothing that is opened later has a number that a wrapper gives a meaning. */
  int null = fcntl(open("/dev/null", O_RDWR | O_CLOEXEC), F_DUPFD_CLOEXEC, RESERVED_FDS);
  if (signals < 0 || null < 0) return ENDED;
  int fd;
  do fd = fcntl(null, F_DUPFD_CLOEXEC, 0);
  while (fd >= 0 && fd < RESERVED_FDS);
  if (chdir("/") != 0) return ENDED;
  for (;;) {
    struct pollfd fds[] = {{REQUESTS_FD, POLLIN, 0}, {signals, POLLIN, 0}};
    if (poll(fds, 2, -1) < 0) continue;
    if (fds[1].revents) report_ends(signals);
    if (!fds[0].revents) continue;
    if (!read_requests()) return 0;
    serve_requests(null);
  }
}
