/* The time that a card takes: each kernel as long as FAKE_CUDA_KERNEL_NS says, one after the other, while the host goes
 * on. Without the setting a kernel takes no time.
 *
 * The clock is the CPU time of the host's thread, plus its waits. So other processes of the machine change nothing, and
 * no wait takes real time. */
#define _GNU_SOURCE
#include "fake.h"
#include <time.h>

/** When the card ends its work, how long it has had none since the first, and how long the host has waited for it. */
static long long done_at, idle, waited;

static long long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec + waited;
}

void fake_busy(int kernels) {
  static long ns = -1;
  if (ns < 0) ns = fake_setting("FAKE_CUDA_KERNEL_NS", 0);
  if (ns == 0) return;
  const long long at = now();
  if (done_at == 0) done_at = at;
  if (at > done_at) idle += at - done_at, done_at = at;
  done_at += (long long)kernels * ns;
}

void fake_rest(void) {
  const long long left = done_at - now();
  if (done_at > 0 && left > 0) waited += left;
}

/** For tests: nanoseconds in which the card has had no work between two kernels. */
long long fakeIdleNs(void) { return idle; }
