/* Device memory that the host can't touch.
 *
 * Two ranges of address space have the same size. Device addresses lie in the first, which no access is allowed to. The
 * content lies in the second, at the same offset. No address is given twice, so a copy from or to freed memory is found. */
#define _GNU_SOURCE
#include "fake.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RANGE ((size_t)1 << 39)
#define AREAS 65536
#define PAGE ((size_t)4096)

static struct area {
  char *start;
  size_t bytes;
  int card;
} areas[AREAS];
static int count;
static char *device, *content;
static size_t used, taken[CARDS];
static struct sigaction inherited;

static size_t pages(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }
static size_t card_bytes(int card) { return (size_t)fake_setting_of("FAKE_CUDA_MEMORY_MIB", card, 80 << 10) << 20; }
static char *content_of(const void *address) { return content + ((const char *)address - device); }

/** Ends the process with a sentence if the host touches device memory. */
static void on_fault(int signal, siginfo_t *info, void *context) {
  if (fake_is_device(info->si_addr)) {
    char text[120];
    int length = snprintf(text, sizeof text, "fake CUDA: the host touches device memory at %p\n", info->si_addr);
    if (write(2, text, (size_t)length) < 0) _exit(87);
    _exit(86);
  }
  if (inherited.sa_flags & SA_SIGINFO)
    inherited.sa_sigaction(signal, info, context);
  else
    sigaction(signal, &inherited, NULL);
}

static int reserve(void) {
  if (device) return OK;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  char *first = mmap(NULL, RANGE, PROT_NONE, flags, -1, 0);
  char *second = mmap(NULL, RANGE, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (first == MAP_FAILED || second == MAP_FAILED) return OUT_OF_MEMORY;
  device = first;
  content = second;
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, &inherited);
  return OK;
}

int fake_is_device(const void *address) {
  return device && (const char *)address >= device && (const char *)address < device + RANGE;
}

int fake_alloc(void **address, size_t bytes) {
  const int card = fake_card();
  if (card < 0) return NO_CONTEXT;
  int code = reserve();
  if (code == OK && (taken[card] + bytes > card_bytes(card) || used + bytes + 2 * PAGE > RANGE || count == AREAS))
    code = OUT_OF_MEMORY;
  fake_note("alloc %zu card%d%s", bytes, card, code == OK ? "" : " fails");
  if (code != OK) return code;
  areas[count++] = (struct area){device + used, bytes, card};
  *address = device + used;
  /* A page between two areas belongs to neither. */
  used += pages(bytes) + PAGE;
  taken[card] += bytes;
  return OK;
}

int fake_free(void *address) {
  if (!address) return OK;
  for (int i = 0; i < count; i++)
    if (areas[i].start == address) {
      fake_note("free %zu", areas[i].bytes);
      madvise(content_of(address), pages(areas[i].bytes), MADV_DONTNEED);
      taken[areas[i].card] -= areas[i].bytes;
      areas[i] = areas[--count];
      return OK;
    }
  fake_note("outside free %p", address);
  return INVALID_VALUE;
}

void fake_memory(size_t *available, size_t *total) {
  const int card = fake_card() < 0 ? 0 : fake_card();
  *total = card_bytes(card);
  *available = *total - taken[card];
}

int fake_card_of(const void *address) {
  for (int i = 0; i < count; i++)
    if ((const char *)address >= areas[i].start && (const char *)address < areas[i].start + areas[i].bytes)
      return areas[i].card;
  return -1;
}

static int within(const void *address, size_t bytes) {
  for (int i = 0; i < count; i++)
    if ((const char *)address >= areas[i].start && (const char *)address + bytes <= areas[i].start + areas[i].bytes)
      return 1;
  return 0;
}

/** The address of the content, or NULL outside the allocated areas. */
static char *touchable(const void *address, size_t bytes) {
  if (!fake_is_device(address)) return (char *)address;
  if (within(address, bytes)) return content_of(address);
  fake_note("outside copy %p %zu", address, bytes);
  return NULL;
}

int fake_move(void *target, size_t target_pitch, const void *source, size_t source_pitch, size_t width, size_t rows) {
  if (width == 0 || rows == 0) return OK;
  char *to = touchable(target, (rows - 1) * target_pitch + width);
  const char *from = touchable(source, (rows - 1) * source_pitch + width);
  if (!to || !from) return INVALID_VALUE;
  for (size_t row = 0; row < rows; row++) memmove(to + row * target_pitch, from + row * source_pitch, width);
  return OK;
}

int fake_fill(void *target, int value, size_t bytes) {
  char *to = touchable(target, bytes);
  if (!to || !fake_is_device(target)) return INVALID_VALUE;
  /* Memory is zeroed in a test far more often than it is written. */
  if (value == 0 && bytes >= 2 * PAGE && (uintptr_t)to % PAGE == 0 && bytes % PAGE == 0)
    return madvise(to, bytes, MADV_DONTNEED) == 0 ? OK : INVALID_VALUE;
  memset(to, value, bytes);
  return OK;
}
