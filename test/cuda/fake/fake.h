/* The common part of the fake CUDA libraries: the memory of the cards, one order of work, one trace.
 *
 * No file here includes a header of NVIDIA. Handles are opaque pointers, and codes are plain ints: the driver and the
 * runtime use the same numbers for the ones below. */
#ifndef FAKE_H
#define FAKE_H
#include <stddef.h>
#include <stdint.h>

enum {
  OK = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  NO_CONTEXT = 201,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  ILLEGAL_ADDRESS = 700,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
};

/** Most cards. */
#define CARDS 8

/* driver.c */

/** The card whose context is current, or -1. */
int fake_card(void);

/* trace.c */

/** Appends a line to the file that FAKE_CUDA_TRACE names. */
void fake_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** The value of an environment variable, or `otherwise`. */
long fake_setting(const char *name, long otherwise);
/** The same for a list such as 80,40: the item of a card, or the last one. */
long fake_setting_of(const char *name, int card, long otherwise);
/** The code in the file that FAKE_CUDA_FAIL_AT names, since a kernel has met that file; OK without one. */
int fake_failure(void);
/** Looks for the file, as a kernel does. */
int fake_meet_failure(void);
const char *fake_error_name(int code);
const char *fake_error_text(int code);

/* memory.c */

int fake_alloc(void **address, size_t bytes);
int fake_free(void *address);
/** Memory of the current card. */
void fake_memory(size_t *available, size_t *total);
/** The card of an allocated address, or -1. */
int fake_card_of(const void *address);
/** Whether the address lies in device memory, allocated or not. */
int fake_is_device(const void *address);
/** Copies rows of `width` bytes, between device and host as the addresses say. @return INVALID_VALUE outside an area */
int fake_move(void *target, size_t target_pitch, const void *source, size_t source_pitch, size_t width, size_t rows);
int fake_fill(void *target, int value, size_t bytes);

/* order.c */

int fake_stream(void **stream, unsigned non_blocking);
int fake_stream_destroy(void *stream);
int fake_event(void **event);
int fake_event_destroy(void *event);
int fake_record(void *event, void *stream);
/** The next work of the stream begins after the event. */
int fake_after(void *stream, void *event);
/** The host waits for a stream, an event, or all work. */
int fake_wait_stream(void *stream);
int fake_wait_event(void *event);
int fake_wait_device(void);

/* pace.c */

/** Kernels begin behind the card's work. */
void fake_busy(int kernels);
/** Sleeps until the card has done its work. */
void fake_rest(void);

/* work.c */

/** A copy of `rows` rows. A synchronous one goes to the default stream; the host waits only if it ends there. */
int fake_copy(void *target, size_t target_pitch, const void *source, size_t source_pitch, size_t width, size_t rows,
              void *stream, int synchronous);
int fake_set(void *target, int value, size_t bytes, void *stream, int synchronous);
/** A kernel with the name of its function, which must outlive the process's work, and the blocks of its grid. */
int fake_kernel(void *stream, const char *name, unsigned x, unsigned y, unsigned z);
int fake_begin_capture(void *stream);
int fake_end_capture(void *stream, void **graph);
int fake_is_capturing(void *stream);
int fake_launch_graph(void *graph, void *stream);
/** CAPTURE_UNSUPPORTED while a stream is captured, with a line in the trace. */
int fake_forbidden(const char *call);

/* Between order.c and work.c. */

enum work { COPY, KERNEL };
int fake_stream_id(void *stream);
/** The card of a stream; that of a default stream is the current one. */
int fake_stream_card(int stream);
/** Puts work on a stream, and notes each pair with unfinished work of another stream on the same card. Bit c of `cards`
 * says that the work touches the memory of card c. */
void fake_enqueue(int stream, enum work work, unsigned cards);

#endif
