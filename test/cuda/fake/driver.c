/* The driver, libcuda.so.1: the calls of Sortie and of ONNX Runtime's provider. */
#include "fake.h"
#include <string.h>

static int initialized, references;
/** Each card has a primary context. */
static char contexts[CARDS];
static char *current;

#define NEEDS_CONTEXT \
  if (!initialized) return NOT_INITIALIZED; \
  if (!current) return NO_CONTEXT

static int devices(void) { return (int)fake_setting("FAKE_CUDA_DEVICES", 1); }

int fake_card(void) { return current ? (int)(current - contexts) : -1; }

/** For the runtime: makes the primary context of a card current. Its first call does so with card 0. */
int fake_use(int card) {
  initialized = 1;
  if (devices() == 0) return NO_DEVICE;
  if (card < 0 || card >= devices()) return INVALID_DEVICE;
  current = &contexts[card];
  return OK;
}

int cuInit(unsigned flags) {
  if (flags) return INVALID_VALUE;
  initialized = 1;
  return devices() > 0 ? OK : NO_DEVICE;
}
int cuDriverGetVersion(int *version) { return *version = (int)fake_setting("FAKE_CUDA_DRIVER", 13000), OK; }
int cuDeviceGetCount(int *count) { return *count = devices(), initialized ? OK : NOT_INITIALIZED; }
int cuDeviceGet(int *device, int ordinal) {
  if (!initialized) return NOT_INITIALIZED;
  return *device = ordinal, ordinal >= 0 && ordinal < devices() ? OK : INVALID_DEVICE;
}
int cuDeviceGetName(char *name, int length, int device) {
  if (device < 0 || device >= devices()) return INVALID_DEVICE;
  strncpy(name, "fake", (size_t)length);
  return OK;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
  size_t available;
  if (device < 0 || device >= devices()) return INVALID_DEVICE;
  fake_memory(&available, bytes);
  return OK;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  const int sm = (int)fake_setting("FAKE_CUDA_SM", 80);
  if (device < 0 || device >= devices()) return INVALID_DEVICE;
  /* 75 and 76: compute capability; 16: multiprocessors; 97: largest shared memory of a block; 10: width of a warp. */
  *value = attribute == 75 ? sm / 10 : attribute == 76 ? sm % 10 : attribute == 16 ? 108 : attribute == 97 ? 166912 : 1;
  if (attribute == 10) *value = 32;
  return OK;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
  if (!initialized) return NOT_INITIALIZED;
  if (device < 0 || device >= devices()) return INVALID_DEVICE;
  references++;
  *context = &contexts[device];
  return OK;
}
int cuDevicePrimaryCtxRelease_v2(int device) { return (void)device, references > 0 ? references--, OK : NO_CONTEXT; }
int cuCtxSetCurrent(void *context) { return current = context, initialized ? OK : NOT_INITIALIZED; }
int cuCtxGetCurrent(void **context) { return *context = current, initialized ? OK : NOT_INITIALIZED; }
int cuCtxSynchronize(void) {
  NEEDS_CONTEXT;
  return fake_wait_device();
}

int cuGetErrorName(int code, const char **name) { return *name = fake_error_name(code), OK; }
int cuGetErrorString(int code, const char **text) { return *text = fake_error_text(code), OK; }

int cuMemAlloc_v2(void **address, size_t bytes) {
  NEEDS_CONTEXT;
  if (fake_forbidden("an allocation")) return CAPTURE_UNSUPPORTED;
  return bytes ? fake_alloc(address, bytes) : INVALID_VALUE;
}
int cuMemFree_v2(void *address) {
  NEEDS_CONTEXT;
  if (fake_forbidden("a release of memory")) return CAPTURE_UNSUPPORTED;
  return fake_free(address);
}
int cuMemGetInfo_v2(size_t *available, size_t *total) {
  NEEDS_CONTEXT;
  return fake_memory(available, total), OK;
}
int cuMemcpyAsync(void *target, const void *source, size_t bytes, void *stream) {
  NEEDS_CONTEXT;
  return fake_copy(target, bytes, source, bytes, bytes, 1, stream, 0);
}
int cuMemcpyHtoDAsync_v2(void *target, const void *source, size_t bytes, void *stream) {
  if (!fake_is_device(target) || fake_is_device(source)) return INVALID_VALUE;
  return cuMemcpyAsync(target, source, bytes, stream);
}
int cuMemcpyDtoHAsync_v2(void *target, const void *source, size_t bytes, void *stream) {
  if (fake_is_device(target) || !fake_is_device(source)) return INVALID_VALUE;
  return cuMemcpyAsync(target, source, bytes, stream);
}
int cuMemcpyDtoDAsync_v2(void *target, const void *source, size_t bytes, void *stream) {
  if (!fake_is_device(target) || !fake_is_device(source)) return INVALID_VALUE;
  return cuMemcpyAsync(target, source, bytes, stream);
}
int cuMemcpyPeerAsync(void *target, void *target_context, const void *source, void *source_context, size_t bytes,
                      void *stream) {
  NEEDS_CONTEXT;
  if (target_context != &contexts[fake_card_of(target)] || source_context != &contexts[fake_card_of(source)])
    return INVALID_VALUE;
  return fake_copy(target, bytes, source, bytes, bytes, 1, stream, 0);
}
int cuMemcpy(void *target, const void *source, size_t bytes) {
  NEEDS_CONTEXT;
  return fake_copy(target, bytes, source, bytes, bytes, 1, NULL, 1);
}
int cuMemcpyHtoD_v2(void *target, const void *source, size_t bytes) { return cuMemcpy(target, source, bytes); }
int cuMemcpyDtoH_v2(void *target, const void *source, size_t bytes) { return cuMemcpy(target, source, bytes); }
int cuMemcpyDtoD_v2(void *target, const void *source, size_t bytes) { return cuMemcpy(target, source, bytes); }
/** CUDA_MEMCPY2D without its arrays. Kind 2 of memory is the device. */
struct copy_2d {
  size_t source_x, source_y;
  int source_kind;
  const char *source_host, *source_device;
  void *source_array;
  size_t source_pitch, target_x, target_y;
  int target_kind;
  char *target_host, *target_device;
  void *target_array;
  size_t target_pitch, width, height;
};
int cuMemcpy2DAsync_v2(const struct copy_2d *c, void *stream) {
  NEEDS_CONTEXT;
  const char *source = (c->source_kind == 2 ? c->source_device : c->source_host) + c->source_y * c->source_pitch;
  char *target = (c->target_kind == 2 ? c->target_device : c->target_host) + c->target_y * c->target_pitch;
  return fake_copy(target + c->target_x, c->target_pitch, source + c->source_x, c->source_pitch, c->width, c->height,
                   stream, 0);
}
int cuMemsetD8Async(void *target, unsigned char value, size_t bytes, void *stream) {
  NEEDS_CONTEXT;
  return fake_set(target, value, bytes, stream, 0);
}
int cuMemsetD8_v2(void *target, unsigned char value, size_t bytes) {
  NEEDS_CONTEXT;
  return fake_set(target, value, bytes, NULL, 1);
}

int cuStreamCreate(void **stream, unsigned flags) {
  NEEDS_CONTEXT;
  return fake_stream(stream, flags & 1);
}
int cuStreamDestroy_v2(void *stream) { return fake_stream_destroy(stream); }
int cuStreamSynchronize(void *stream) {
  NEEDS_CONTEXT;
  return fake_wait_stream(stream);
}
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return (void)flags, fake_after(stream, event); }
int cuEventCreate(void **event, unsigned flags) { return (void)flags, fake_event(event); }
int cuEventRecord(void *event, void *stream) { return fake_record(event, stream); }
int cuEventSynchronize(void *event) { return fake_wait_event(event); }
int cuEventDestroy_v2(void *event) { return fake_event_destroy(event); }
int cuTensorMapEncodeTiled(void) { return OK; }
