/* The runtime, libcudart.so.13: the calls of ONNX Runtime's provider. Memory, order and trace are the driver's. */
#include "fake.h"
#include <stdlib.h>
#include <string.h>

int fake_use(int card);
int cuDeviceGetAttribute(int *value, int attribute, int device);

struct dim3 {
  unsigned x, y, z;
};

/* Devices. */

/** Of pools, libraries and kernels there are only handles. */
static int opaque;

/** The current card; the first call of the runtime makes card 0 current. */
static int current(int *code) {
  *code = fake_card() < 0 ? fake_use(0) : OK;
  return fake_card() < 0 ? 0 : fake_card();
}

int cudaGetDeviceCount(int *count) {
  *count = (int)fake_setting("FAKE_CUDA_DEVICES", 1);
  return *count > 0 ? OK : NO_DEVICE;
}
int cudaGetDevice(int *card) {
  int code;
  return *card = current(&code), code;
}
int cudaSetDevice(int wanted) { return fake_use(wanted); }
int cudaDeviceGetAttribute(int *value, int attribute, int of) { return cuDeviceGetAttribute(value, attribute, of); }
int cudaDriverGetVersion(int *version) { return *version = 13000, OK; }
int cudaRuntimeGetVersion(int *version) { return *version = 13000, OK; }

/** Fields of CUDA 13's cudaDeviceProp by their offset in bytes, with the values of an A100. */
int cudaGetDeviceProperties(char *properties, int of) {
  const int sm = (int)fake_setting("FAKE_CUDA_SM", 80);
  static const struct {
    int offset;
    long value, wide;
  } fields[] = {
      {296, 49152, 1},       /* shared memory of a block */
      {304, 65536, 0},       /* registers of a block */
      {308, 32, 0},          /* width of a warp */
      {320, 1024, 0},        /* threads of a block */
      {324, 1024, 0},        {328, 1024, 0}, {332, 64, 0},    /* dimensions of a block */
      {336, 2147483647, 0},  {340, 65535, 0}, {344, 65535, 0}, /* dimensions of a grid */
      {384, 108, 0},         /* multiprocessors */
      {560, 1, 0},           /* concurrent kernels */
      {588, 1, 0},           /* unified addresses */
      {596, 40 << 20, 0},    /* L2 cache */
      {604, 2048, 0},        /* threads of a multiprocessor */
      {624, 167936, 1},      /* shared memory of a multiprocessor */
      {632, 65536, 0},       /* registers of a multiprocessor */
      {672, 166912, 1},      /* largest shared memory of a block */
  };
  size_t available, total;
  fake_memory(&available, &total);
  memset(properties, 0, 1008);
  strcpy(properties, "fake");
  memcpy(properties + 288, &total, 8);
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
    memcpy(properties + fields[i].offset, &fields[i].value, fields[i].wide ? 8 : 4);
  const int capability[] = {sm / 10, sm % 10};
  memcpy(properties + 360, capability, 8);
  return of >= 0 ? OK : INVALID_DEVICE;
}

/* Memory. */

int cudaMalloc(void **address, size_t bytes) {
  int code;
  current(&code);
  if (code != OK) return NO_DEVICE;
  if (fake_forbidden("an allocation")) return CAPTURE_UNSUPPORTED;
  return bytes ? fake_alloc(address, bytes) : (*address = NULL, OK);
}
int cudaFree(void *address) {
  if (fake_forbidden("a release of memory")) return CAPTURE_UNSUPPORTED;
  return fake_free(address);
}
int cudaMallocFromPoolAsync(void **address, size_t bytes, void *pool, void *stream) {
  return (void)pool, (void)stream, fake_alloc(address, bytes);
}
int cudaFreeAsync(void *address, void *stream) { return (void)stream, fake_free(address); }
static int host_memory(void **address, size_t bytes) {
  if (fake_forbidden("an allocation of host memory")) return CAPTURE_UNSUPPORTED;
  fake_note("hostalloc %zu", bytes);
  return *address = malloc(bytes), *address ? OK : OUT_OF_MEMORY;
}
int cudaMallocHost(void **address, size_t bytes) { return host_memory(address, bytes); }
int cudaHostAlloc(void **address, size_t bytes, unsigned flags) { return (void)flags, host_memory(address, bytes); }
int cudaFreeHost(void *address) { return free(address), OK; }
int cudaMemGetInfo(size_t *available, size_t *total) { return fake_memory(available, total), OK; }
int cudaMemcpy(void *target, const void *source, size_t bytes, int kind) {
  return (void)kind, fake_copy(target, bytes, source, bytes, bytes, 1, NULL, 1);
}
int cudaMemcpyAsync(void *target, const void *source, size_t bytes, int kind, void *stream) {
  return (void)kind, fake_copy(target, bytes, source, bytes, bytes, 1, stream, 0);
}
int cudaMemcpy2DAsync(void *target, size_t target_pitch, const void *source, size_t source_pitch, size_t width,
                      size_t height, int kind, void *stream) {
  return (void)kind, fake_copy(target, target_pitch, source, source_pitch, width, height, stream, 0);
}
/** A variable of a kernel, which no fake kernel has written. */
int cudaMemcpyFromSymbol(void *target, const void *symbol, size_t bytes, size_t offset, int kind) {
  (void)symbol, (void)offset, (void)kind;
  return memset(target, 0, bytes), fake_wait_stream(NULL);
}
int cudaMemset(void *target, int value, size_t bytes) { return fake_set(target, value, bytes, NULL, 1); }
int cudaMemsetAsync(void *target, int value, size_t bytes, void *stream) {
  return fake_set(target, value, bytes, stream, 0);
}
/** Kind of memory (2: the device, 0: unregistered), device, and both addresses. */
int cudaPointerGetAttributes(char *attributes, const void *address) {
  int code;
  const int kind[] = {fake_is_device(address) ? 2 : 0, fake_is_device(address) ? fake_card_of(address) : current(&code)};
  memset(attributes, 0, 88);
  memcpy(attributes, kind, 8);
  memcpy(attributes + (kind[0] == 2 ? 8 : 16), &address, 8);
  return OK;
}
int cudaMemPoolCreate(void **pool, const void *properties) { return (void)properties, *pool = &opaque, OK; }
int cudaMemPoolDestroy(void *pool) { return (void)pool, OK; }
int cudaMemPoolGetAttribute(void *pool, int attribute, void *value) {
  return (void)pool, (void)attribute, memset(value, 0, 8), OK;
}
int cudaMemPoolSetAttribute(void *pool, int attribute, void *value) {
  return (void)pool, (void)attribute, (void)value, OK;
}
int cudaMemPoolTrimTo(void *pool, size_t bytes) { return (void)pool, (void)bytes, OK; }

/* Streams, events and graphs. */

int cudaStreamCreate(void **stream) { return fake_stream(stream, 0); }
int cudaStreamCreateWithFlags(void **stream, unsigned flags) { return fake_stream(stream, flags & 1); }
int cudaStreamDestroy(void *stream) { return fake_stream_destroy(stream); }
int cudaStreamSynchronize(void *stream) { return fake_wait_stream(stream); }
int cudaStreamWaitEvent(void *stream, void *event, unsigned flags) { return (void)flags, fake_after(stream, event); }
int cudaDeviceSynchronize(void) { return fake_wait_device(); }
int cudaEventCreate(void **event) { return fake_event(event); }
int cudaEventCreateWithFlags(void **event, unsigned flags) { return (void)flags, fake_event(event); }
int cudaEventDestroy(void *event) { return fake_event_destroy(event); }
int cudaEventRecord(void *event, void *stream) { return fake_record(event, stream); }
int cudaEventSynchronize(void *event) { return fake_wait_event(event); }
int cudaEventElapsedTime(float *ms, void *from, void *to) { return (void)from, (void)to, *ms = 0, OK; }
int cudaStreamBeginCapture(void *stream, int mode) { return (void)mode, fake_begin_capture(stream); }
int cudaStreamEndCapture(void *stream, void **graph) { return fake_end_capture(stream, graph); }
int cudaStreamIsCapturing(void *stream, int *status) { return *status = fake_is_capturing(stream), OK; }
int cudaGraphInstantiate(void **executable, void *graph, unsigned long long flags) {
  return (void)flags, *executable = graph, graph ? OK : INVALID_VALUE;
}
int cudaGraphLaunch(void *executable, void *stream) { return fake_launch_graph(executable, stream); }
int cudaGraphDestroy(void *graph) { return (void)graph, OK; }
int cudaGraphExecDestroy(void *executable) { return (void)executable, OK; }

/* Kernels. */

/** The functions that the provider has registered, by the address that a launch names, in an open hash table. */
#define FUNCTIONS (1 << 17)
static struct {
  const void *function;
  const char *name;
} functions[FUNCTIONS];

static size_t place_of(const void *function) {
  size_t place = ((uintptr_t)function >> 4) % FUNCTIONS;
  while (functions[place].function && functions[place].function != function) place = (place + 1) % FUNCTIONS;
  return place;
}
void __cudaRegisterFunction(void **handle, const void *function, char *device, const char *name) {
  (void)handle, (void)device;
  const size_t place = place_of(function);
  functions[place].function = function;
  functions[place].name = name;
}
static int launch(const void *function, struct dim3 grid, void *stream) {
  const char *name = functions[place_of(function)].name;
  return fake_kernel(stream, name ? name : "unregistered", grid.x, grid.y, grid.z);
}

#define KERNEL_ARGUMENTS const void *function, struct dim3 grid, struct dim3 block, void **arguments, size_t shared

int cudaLaunchKernel(KERNEL_ARGUMENTS, void *stream) {
  return (void)block, (void)arguments, (void)shared, launch(function, grid, stream);
}
int __cudaLaunchKernel(KERNEL_ARGUMENTS, void *stream) {
  return (void)block, (void)arguments, (void)shared, launch(function, grid, stream);
}
int cudaLaunchCooperativeKernel(KERNEL_ARGUMENTS, void *stream) {
  return (void)block, (void)arguments, (void)shared, launch(function, grid, stream);
}
struct launch {
  struct dim3 grid, block;
  size_t shared;
  void *stream;
};
int cudaLaunchKernelExC(const struct launch *of, const void *function, void **arguments) {
  return (void)arguments, launch(function, of->grid, of->stream);
}
int cudaLaunchHostFunc(void *stream, void (*function)(void *), void *data) {
  return (void)stream, function(data), OK;
}
static struct launch pushed;
unsigned __cudaPushCallConfiguration(struct dim3 grid, struct dim3 block, size_t shared, void *stream) {
  return pushed = (struct launch){grid, block, shared, stream}, 0;
}
int __cudaPopCallConfiguration(struct dim3 *grid, struct dim3 *block, size_t *shared, void **stream) {
  return *grid = pushed.grid, *block = pushed.block, *shared = pushed.shared, *stream = pushed.stream, OK;
}
int __cudaGetKernel(void **kernel, const void *function) { return *kernel = (void *)function, OK; }
void **__cudaRegisterFatBinary(void *binary) {
  static void *handle;
  return (void)binary, &handle;
}
void __cudaRegisterFatBinaryEnd(void **handle) { (void)handle; }
void __cudaUnregisterFatBinary(void **handle) { (void)handle; }
void __cudaRegisterVar(void) {}
/** Registers of a kernel (32) and threads of its block, by their offset in bytes. */
int cudaFuncGetAttributes(char *attributes, const void *function) {
  const int values[] = {1024, 32};
  (void)function;
  return memset(attributes, 0, 144), memcpy(attributes + 24, values, 8), OK;
}
int cudaFuncSetAttribute(void) { return OK; }
int cudaKernelSetAttributeForDevice(void) { return OK; }
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks) { return *blocks = 2, OK; }
int cudaLibraryLoadData(void **library) { return *library = &opaque, OK; }
int cudaLibraryGetKernel(void **kernel) { return *kernel = &opaque, OK; }
int cudaLibraryUnload(void) { return OK; }
/** 1: the driver has no such function. */
int cudaGetDriverEntryPointByVersion(const char *name, void **found, unsigned version, unsigned long long flags,
                                     int *result) {
  (void)name, (void)version, (void)flags;
  if (result) *result = 1;
  return *found = NULL, OK;
}

int cudaGetLastError(void) { return fake_failure(); }
int cudaPeekAtLastError(void) { return fake_failure(); }
const char *cudaGetErrorName(int code) { return fake_error_name(code); }
const char *cudaGetErrorString(int code) { return fake_error_text(code); }
