/* Copies, memory sets and kernels: on a stream, or into the graph that is captured from it. Kernels do nothing. */
#include "fake.h"
#include <stdlib.h>

#define COPIES 512
/** Most kernels of different names. */
#define NAMES 4096

struct copy {
  void *target;
  const void *source;
  size_t target_pitch, source_pitch, width, rows;
  int value;
};
struct graph {
  int kernels, count;
  struct copy copies[COPIES];
};

/** The graph of the one capture, its stream, and whether an error has ended it. */
static struct graph *captured;
static int captured_stream, invalid;

int fake_forbidden(const char *call) {
  if (!captured) return OK;
  fake_note("illegal %s", call);
  invalid = 1;
  return CAPTURE_UNSUPPORTED;
}

static const char *direction(const void *target, const void *source) {
  if (!fake_is_device(target)) return fake_is_device(source) ? "D2H" : "H2H";
  if (!fake_is_device(source)) return "H2D";
  return fake_card_of(target) == fake_card_of(source) ? "D2D" : "P2P";
}

/** The cards whose memory a copy touches. */
static unsigned touched(const struct copy *copy) {
  const int target = fake_card_of(copy->target), source = fake_card_of(copy->source);
  return (target < 0 ? 0 : 1u << target) | (source < 0 ? 0 : 1u << source);
}

static int run(const struct copy *copy) {
  if (!copy->source) return fake_fill(copy->target, copy->value, copy->width);
  return fake_move(copy->target, copy->target_pitch, copy->source, copy->source_pitch, copy->width, copy->rows);
}

/** Puts a copy on a stream or into the graph. */
static int submit(struct copy copy, void *stream, int synchronous) {
  int id = fake_stream_id(stream);
  if (fake_failure() != OK) return fake_failure();
  if (id < 0) return INVALID_HANDLE;
  const char *kind = copy.source ? direction(copy.target, copy.source) : "set";
  if (captured && (synchronous || id == 0)) return fake_forbidden(copy.source ? "a copy" : "a memory set");
  if (captured && id == captured_stream) {
    if (captured->count == COPIES) return OUT_OF_MEMORY;
    captured->copies[captured->count++] = copy;
    fake_note("captured %s s%d %zu", kind, id, copy.width * copy.rows);
    return OK;
  }
  fake_enqueue(id, COPY, touched(&copy));
  fake_note("copy %s s%d %zu%s", kind, id, copy.width * copy.rows, synchronous ? " synchronous" : "");
  int code = run(&copy);
  /* The host waits for a synchronous copy to its own memory. All others may be in flight when the call returns. */
  if (code == OK && synchronous && !fake_is_device(copy.target)) return fake_wait_stream(NULL);
  return code;
}

int fake_copy(void *target, size_t target_pitch, const void *source, size_t source_pitch, size_t width, size_t rows,
              void *stream, int synchronous) {
  if (width * rows == 0) return OK;
  if (!target || !source) return INVALID_VALUE;
  return submit((struct copy){target, source, target_pitch, source_pitch, width, rows, 0}, stream, synchronous);
}

int fake_set(void *target, int value, size_t bytes, void *stream, int synchronous) {
  if (bytes == 0) return OK;
  return submit((struct copy){.target = target, .width = bytes, .rows = 1, .value = value}, stream, synchronous);
}

/** A number for each name: a trace has every name once. */
static int number_of(const char *name) {
  static const char *names[NAMES];
  static int count;
  for (int i = 0; i < count; i++)
    if (names[i] == name) return i;
  if (count == NAMES) return NAMES;
  names[count] = name;
  fake_note("name k%d %s", count, name);
  return count++;
}

int fake_kernel(void *stream, const char *name, unsigned x, unsigned y, unsigned z) {
  const int number = number_of(name);
  int id = fake_stream_id(stream);
  /* A card reports the fault of a kernel at a later call. */
  if (fake_failure() != OK) return fake_failure();
  fake_meet_failure();
  if (id < 0) return INVALID_HANDLE;
  if (captured && id == 0) return fake_forbidden("a kernel on the default stream");
  if (captured && id == captured_stream) {
    captured->kernels++;
    fake_note("captured kernel s%d k%d %ux%ux%u", id, number, x, y, z);
    return OK;
  }
  if (fake_card() >= 0 && fake_stream_card(id) != fake_card()) {
    fake_note("foreign kernel s%d on card%d", id, fake_card());
    return INVALID_HANDLE;
  }
  fake_enqueue(id, KERNEL, 1u << fake_stream_card(id));
  fake_busy(1);
  fake_note("kernel s%d k%d %ux%ux%u", id, number, x, y, z);
  return OK;
}

int fake_begin_capture(void *stream) {
  int id = fake_stream_id(stream);
  if (id <= 0) return INVALID_HANDLE;
  if (captured) return fake_forbidden("a second capture");
  captured = calloc(1, sizeof *captured);
  captured_stream = id;
  invalid = 0;
  fake_note("capture s%d", id);
  return captured ? OK : OUT_OF_MEMORY;
}

int fake_end_capture(void *stream, void **graph) {
  if (!captured || fake_stream_id(stream) != captured_stream) return INVALID_HANDLE;
  *graph = captured;
  fake_note("captured graph %d kernels %d copies", captured->kernels, captured->count);
  captured = NULL;
  return invalid ? CAPTURE_INVALIDATED : OK;
}

int fake_is_capturing(void *stream) { return captured && fake_stream_id(stream) == captured_stream; }

int fake_launch_graph(void *graph, void *stream) {
  int id = fake_stream_id(stream);
  if (id < 0 || !graph) return INVALID_HANDLE;
  const struct graph *launched = graph;
  int code = OK;
  for (int i = 0; i < launched->count && code == OK; i++) {
    fake_enqueue(id, COPY, touched(&launched->copies[i]));
    code = run(&launched->copies[i]);
  }
  fake_enqueue(id, KERNEL, 1u << fake_stream_card(id));
  fake_busy(launched->kernels);
  fake_note("launch s%d", id);
  return code;
}
