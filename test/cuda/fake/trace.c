/* The trace, its marks, settings and error texts. */
#include "fake.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *file;

static FILE *trace(void) {
  const char *path = getenv("FAKE_CUDA_TRACE");
  if (!file && path) file = fopen(path, "a");
  return file;
}

void fake_note(const char *format, ...) {
  if (!trace()) return;
  va_list arguments;
  va_start(arguments, format);
  vfprintf(file, format, arguments);
  va_end(arguments);
  fputc('\n', file);
}

/** Called by tests: divides the trace, and writes it to the file. */
void fakeMark(const char *text) {
  fake_note("mark %s", text);
  if (file) fflush(file);
}

long fake_setting(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text ? strtol(text, NULL, 10) : otherwise;
}

long fake_setting_of(const char *name, int card, long otherwise) {
  const char *text = getenv(name);
  if (!text) return otherwise;
  for (const char *next; card > 0 && (next = strchr(text, ',')); card--) text = next + 1;
  return strtol(text, NULL, 10);
}

/** An error of the card: all later calls of the process fail. */
static int failure;

int fake_failure(void) { return failure; }

int fake_meet_failure(void) {
  static const char *path;
  static int known;
  if (!known) path = getenv("FAKE_CUDA_FAIL_AT"), known = 1;
  FILE *cause = path && failure == OK ? fopen(path, "r") : NULL;
  if (cause) {
    if (fscanf(cause, "%d", &failure) != 1) failure = ILLEGAL_ADDRESS;
    fclose(cause);
    fake_note("failure %d", failure);
  }
  return failure;
}

static const struct {
  int code;
  const char *name, *text;
} errors[] = {
    {OK, "SUCCESS", "no error"},
    {INVALID_VALUE, "INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "NOT_INITIALIZED", "initialization error"},
    {NO_DEVICE, "NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "INVALID_DEVICE", "invalid device ordinal"},
    {NO_CONTEXT, "INVALID_CONTEXT", "invalid device context"},
    {INVALID_HANDLE, "INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "NOT_FOUND", "named symbol not found"},
    {ILLEGAL_ADDRESS, "ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {214, "ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {CAPTURE_UNSUPPORTED, "STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
};

static int entry(int code) {
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
    if (errors[i].code == code) return (int)i;
  return -1;
}

const char *fake_error_name(int code) { return entry(code) < 0 ? "UNKNOWN" : errors[entry(code)].name; }
const char *fake_error_text(int code) { return entry(code) < 0 ? "unknown error" : errors[entry(code)].text; }
