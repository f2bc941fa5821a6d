/* libcublas.so.13 and libcublasLt.so.13 (with -DLT): each product is a kernel on its stream. */
#include "fake.h"
#include <stdlib.h>
#include <string.h>

#define NOTHING(name) \
  int name(void) { return OK; }
#define CREATE(name) \
  int name(void **made) { return *made = calloc(1, 64), *made ? OK : 3; }
#define DESTROY(name) \
  int name(void *made) { return free(made), OK; }

#ifdef LT

CREATE(cublasLtCreate)
DESTROY(cublasLtDestroy)
CREATE(cublasLtMatmulDescCreate)
DESTROY(cublasLtMatmulDescDestroy)
CREATE(cublasLtMatmulPreferenceCreate)
DESTROY(cublasLtMatmulPreferenceDestroy)
CREATE(cublasLtMatrixLayoutCreate)
DESTROY(cublasLtMatrixLayoutDestroy)
CREATE(cublasLtMatrixTransformDescCreate)
DESTROY(cublasLtMatrixTransformDescDestroy)
NOTHING(cublasLtMatmulAlgoConfigSetAttribute)
NOTHING(cublasLtMatmulAlgoInit)
NOTHING(cublasLtMatmulDescSetAttribute)
NOTHING(cublasLtMatmulPreferenceSetAttribute)
NOTHING(cublasLtMatrixLayoutSetAttribute)
/** The result is an algorithm (64 bytes), a workspace of 0 bytes, a state of 0 and some waves. */
int cublasLtMatmulAlgoGetHeuristic(void *handle, void *product, void *a, void *b, void *c, void *d, void *preference,
                                   int wanted, void *results, int *returned) {
  (void)handle, (void)product, (void)a, (void)b, (void)c, (void)d, (void)preference;
  if (wanted > 0) memset(results, 0, 96);
  *returned = wanted > 0;
  return OK;
}
int cublasLtMatmul(void *handle, void *product, const void *alpha, const void *a, void *a_layout, const void *b,
                   void *b_layout, const void *beta, const void *c, void *c_layout, void *d, void *d_layout,
                   const void *algorithm, void *workspace, size_t workspace_bytes, void *stream) {
  (void)handle, (void)product, (void)alpha, (void)a, (void)a_layout, (void)b, (void)b_layout, (void)beta, (void)c;
  (void)c_layout, (void)d, (void)d_layout, (void)algorithm, (void)workspace, (void)workspace_bytes;
  return fake_kernel(stream, "cublasLtMatmul", 1, 1, 1);
}
int cublasLtMatrixTransform(void *handle, void *transform, const void *alpha, const void *a, void *a_layout,
                            const void *beta, const void *b, void *b_layout, void *c, void *c_layout, void *stream) {
  (void)handle, (void)transform, (void)alpha, (void)a, (void)a_layout, (void)beta, (void)b, (void)b_layout, (void)c;
  (void)c_layout;
  return fake_kernel(stream, "cublasLtMatrixTransform", 1, 1, 1);
}

#else

struct handle {
  void *stream;
  int math;
};
/** All take the handle first; the fake ignores the rest. */
#define KERNEL_ON_STREAM(name) \
  int name(struct handle *handle) { return fake_kernel(handle->stream, #name, 1, 1, 1); }

CREATE(cublasCreate_v2)
DESTROY(cublasDestroy_v2)
int cublasSetStream_v2(struct handle *handle, void *stream) { return handle->stream = stream, OK; }
int cublasSetMathMode(struct handle *handle, int mode) { return handle->math = mode, OK; }
int cublasGetMathMode(struct handle *handle, int *mode) { return *mode = handle->math, OK; }
const char *cublasGetStatusName(int code) { return code ? "CUBLAS_STATUS_FAKE" : "CUBLAS_STATUS_SUCCESS"; }
const char *cublasGetStatusString(int code) { return code ? "fake error" : "success"; }
KERNEL_ON_STREAM(cublasGemmEx)
KERNEL_ON_STREAM(cublasGemmBatchedEx)
KERNEL_ON_STREAM(cublasGemmStridedBatchedEx)
KERNEL_ON_STREAM(cublasSgemm_v2)
KERNEL_ON_STREAM(cublasSgemmBatched)
KERNEL_ON_STREAM(cublasSgemmStridedBatched)
KERNEL_ON_STREAM(cublasDgemm_v2)
KERNEL_ON_STREAM(cublasDgemmBatched)
KERNEL_ON_STREAM(cublasDgemmStridedBatched)
KERNEL_ON_STREAM(cublasSgeam)
KERNEL_ON_STREAM(cublasDgeam)
KERNEL_ON_STREAM(cublasScopy_v2)
KERNEL_ON_STREAM(cublasDcopy_v2)
KERNEL_ON_STREAM(cublasSscal_v2)
KERNEL_ON_STREAM(cublasSgetrfBatched)
KERNEL_ON_STREAM(cublasDgetrfBatched)
KERNEL_ON_STREAM(cublasSgetriBatched)
KERNEL_ON_STREAM(cublasDgetriBatched)

#endif
