/* wrapper.h - what the two parts of the program share: the wrapper of a run (wrapper.c), and the starter of wrappers (starter.c). */
#ifndef HUB_WRAPPER_H
#define HUB_WRAPPER_H
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ORDER_FD = 0, LOG_FD = 1, FOLDER_FD = 3, CGROUP_FD = 4, FIRST_FREE_FD = 5 };
enum { SIGNALS = 64 };

/* Writes all of it, or says what is missing; 0 when all is written. */
static inline size_t write_all(int fd, const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t n = write(fd, bytes, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return length;
    bytes += n;
    length -= (size_t)n;
  }
  return 0;
}

/* By the system call: the library refuses the two signals that it keeps for itself, which may be inherited as ignored. */
static inline void set_action(int signal, void (*handler)(int)) {
  struct {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
  } action = {handler, 0, NULL, 0};
  syscall(SYS_rt_sigaction, signal, &action, NULL, sizeof action.mask);
}

/* The signals to be blocked, one bit each; the lowest is signal 1. */
static inline void set_mask(uint64_t mask) { syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask); }

/* Starts wrappers until descriptor 0 ends. */
int run_starter(void);

#endif
