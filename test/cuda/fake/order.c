/* Which work is known to have ended before which: vector clocks.
 *
 * Work on one stream runs in order. Work on two streams is ordered by an event, by a wait of the host, or by the default
 * stream, which waits for all streams that are not non-blocking, and these for it. Every other pair is unordered, if both
 * touch the memory of one card. */
#include "fake.h"
#include <stdlib.h>
#include <string.h>

#define STREAMS 128

typedef uint64_t clocks[STREAMS];
struct event {
  clocks seen;
  int card;
};

static struct stream {
  int live, blocking, card;
  /** For each stream, the last work that ends before the next work of this one. The own entry counts its work. */
  clocks seen;
  /** The last copy that touches each card, and the last kernel, which touches its own. */
  uint64_t last_copy[CARDS], last_kernel;
} streams[STREAMS] = {{.live = 1}};
/** For each stream, the last work whose end the host knows. */
static clocks host;

static void join(clocks into, const clocks from) {
  for (int i = 0; i < STREAMS; i++)
    if (from[i] > into[i]) into[i] = from[i];
}

/** Handles 0, 1 and 2 are the default streams. */
int fake_stream_id(void *stream) {
  if ((uintptr_t)stream <= 2) return 0;
  struct stream *found = stream;
  return found > streams && found < streams + STREAMS && found->live ? (int)(found - streams) : -1;
}

int fake_stream_card(int id) { return id == 0 ? (fake_card() < 0 ? 0 : fake_card()) : streams[id].card; }

int fake_stream(void **stream, unsigned non_blocking) {
  for (int id = 1; id < STREAMS; id++)
    if (!streams[id].live && streams[id].seen[id] == 0) {
      streams[id].live = 1;
      streams[id].blocking = !non_blocking;
      streams[id].card = fake_card() < 0 ? 0 : fake_card();
      *stream = &streams[id];
      fake_note("stream s%d %s card%d", id, non_blocking ? "nonblocking" : "blocking", streams[id].card);
      return OK;
    }
  return OUT_OF_MEMORY;
}

int fake_stream_destroy(void *stream) {
  int id = fake_stream_id(stream);
  if (id <= 0) return INVALID_HANDLE;
  streams[id].live = 0;
  fake_note("destroy s%d", id);
  return OK;
}

/** What the next work of a stream comes after. */
static void order(int id) {
  join(streams[id].seen, host);
  if (id == 0)
    for (int other = 1; other < STREAMS; other++) {
      if (streams[other].blocking) join(streams[0].seen, streams[other].seen);
    }
  else if (streams[id].blocking)
    join(streams[id].seen, streams[0].seen);
}

/** Two copies are not compared: a test that sees every copy beside every kernel finds the streams that are not ordered. */
void fake_enqueue(int id, enum work work, unsigned cards) {
  struct stream *own = &streams[id];
  order(id);
  for (int other = 0; other < STREAMS; other++) {
    struct stream *that = &streams[other];
    if (other == id) continue;
    int copy = 0, kernel = cards >> fake_stream_card(other) & 1 && that->last_kernel > own->seen[other];
    for (int card = 0; work == KERNEL && card < CARDS; card++)
      copy |= cards >> card & 1 && that->last_copy[card] > own->seen[other];
    if (!copy && !kernel) continue;
    fake_note("unordered %s s%d beside %s s%d", work == KERNEL ? "kernel" : "copy", id, copy ? "copy" : "kernel", other);
    /* One line for each pair of works, not for all that follow. */
    own->seen[other] = that->seen[other];
  }
  own->seen[id]++;
  if (work == KERNEL) own->last_kernel = own->seen[id];
  for (int card = 0; work == COPY && card < CARDS; card++)
    if (cards >> card & 1) own->last_copy[card] = own->seen[id];
}

int fake_event(void **event) {
  struct event *made = calloc(1, sizeof *made);
  if (made) made->card = fake_card();
  return *event = made, made ? OK : OUT_OF_MEMORY;
}

int fake_event_destroy(void *event) {
  free(event);
  return OK;
}

int fake_record(void *event, void *stream) {
  int id = fake_stream_id(stream);
  /* An event marks work of its own card. */
  if (id < 0 || !event || (id > 0 && ((struct event *)event)->card != streams[id].card)) return INVALID_HANDLE;
  order(id);
  memcpy(((struct event *)event)->seen, streams[id].seen, sizeof(clocks));
  return OK;
}

int fake_after(void *stream, void *event) {
  int id = fake_stream_id(stream);
  if (id < 0 || !event) return INVALID_HANDLE;
  join(streams[id].seen, ((struct event *)event)->seen);
  fake_note("after s%d", id);
  return OK;
}

int fake_wait_stream(void *stream) {
  if (fake_failure() != OK) return fake_failure();
  int id = fake_stream_id(stream);
  if (id < 0) return INVALID_HANDLE;
  if (fake_forbidden("a wait for a stream")) return CAPTURE_UNSUPPORTED;
  fake_rest();
  join(host, streams[id].seen);
  fake_note("wait s%d", id);
  return OK;
}

int fake_wait_event(void *event) {
  if (fake_failure() != OK) return fake_failure();
  if (!event) return INVALID_HANDLE;
  if (fake_forbidden("a wait for an event")) return CAPTURE_UNSUPPORTED;
  fake_rest();
  join(host, ((struct event *)event)->seen);
  fake_note("wait event");
  return OK;
}

int fake_wait_device(void) {
  if (fake_failure() != OK) return fake_failure();
  if (fake_forbidden("a wait for the device")) return CAPTURE_UNSUPPORTED;
  fake_rest();
  for (int id = 0; id < STREAMS; id++) join(host, streams[id].seen);
  fake_note("wait device");
  return OK;
}
