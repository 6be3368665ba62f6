/* wrapper.h - what the two parts of the program share: the wrapper of a run (wrapper.c), and the starter of wrappers (starter.c). */
#ifndef HUB_WRAPPER_H
#define HUB_WRAPPER_H
#include <stddef.h>
#include <stdint.h>

enum { ORDER_FD = 0, LOG_FD = 1, FOLDER_FD = 3, CGROUP_FD = 4, FIRST_FREE_FD = 5 };
enum { SIGNALS = 64 };

/* Writes all of it, or says what is missing; 0 when all is written. */
size_t write_all(int fd, const char *bytes, size_t length);
void set_action(int signal, void (*handler)(int));
/* The signals to be blocked, one bit each; the lowest is signal 1. */
void set_mask(uint64_t mask);

/* Starts wrappers until descriptor 0 ends. */
int run_starter(void);

#endif
