/* A stand-in for a GPU: the calls into NVIDIA's libraries that torch makes, answered by the host.

   Device memory is host memory and every stream is always done. Kernels are not run: a launch returns at once where
   STAND_IN_LAUNCHES is set, and ends the process otherwise. Of cuDNN there is BatchNorm in training mode, which checks
   what torch hands it and computes nothing. Loaded before NVIDIA's libraries (LD_PRELOAD). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime_api.h>
#include <cudnn.h>

#define DONE { return 0; }
typedef cudaError_t E;
typedef cudnnStatus_t S;

/* Device. */
E cudaGetDeviceCount(int *count) { *count = 1; return 0; }
E cudaGetDevice(int *device) { *device = 0; return 0; }
E cudaSetDevice(int device) DONE
E cudaDriverGetVersion(int *version) { *version = CUDART_VERSION; return 0; }
E cudaRuntimeGetVersion(int *version) { *version = CUDART_VERSION; return 0; }
E cudaDeviceCanAccessPeer(int *can, int device, int peer) { *can = 0; return 0; }
E cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -1; return 0; }
E cudaDeviceSynchronize(void) DONE
E cudaGetLastError(void) DONE
E cudaPeekAtLastError(void) DONE

E cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
  memset(p, 0, sizeof *p);
  strcpy(p->name, "stand-in GPU");
  p->major = 9;
  p->multiProcessorCount = 132;
  p->warpSize = 32;
  p->totalGlobalMem = 1ull << 34;
  p->maxThreadsPerBlock = p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
  p->maxThreadsDim[2] = 64;
  p->maxThreadsPerMultiProcessor = 2048;
  p->maxGridSize[0] = 0x7fffffff;
  p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->sharedMemPerBlock = 49152;
  p->sharedMemPerBlockOptin = p->sharedMemPerMultiprocessor = 232448;
  p->regsPerBlock = p->regsPerMultiprocessor = 65536;
  p->l2CacheSize = 50 << 20;
  return 0;
}

E cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
  struct cudaDeviceProp p;
  cudaGetDeviceProperties(&p, device);
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
    case cudaDevAttrWarpSize: *value = p.warpSize; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = p.maxThreadsPerMultiProcessor; break;
    case cudaDevAttrMaxGridDimX: *value = p.maxGridSize[0]; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = p.sharedMemPerBlock; break;
    default: *value = 0;
  }
  return 0;
}

/* Memory. What was pinned is remembered, because torch asks. */
static struct { char *start; size_t size; } pinned[1 << 14];
static unsigned count;

static E take(void **p, size_t size) {
  if (posix_memalign(p, 512, size)) return cudaErrorMemoryAllocation;
  /* As on a device, nobody may count on zeros. Where no kernel runs, numbers are to be harmless, and a large block, whose
     pages are new, takes no memory before it is written. */
  if (!getenv("STAND_IN_LAUNCHES")) memset(*p, 0xa5, size);
  else if (size < 1 << 20) memset(*p, 0, size);
  return 0;
}
E cudaMalloc(void **p, size_t size) { return take(p, size); }
E cudaFree(void *p) { free(p); return 0; }
E cudaHostAlloc(void **p, size_t size, unsigned flags) {
  unsigned at = __sync_fetch_and_add(&count, 1) % (1 << 14);
  E error = take(p, size);
  pinned[at].start = *p;
  pinned[at].size = error ? 0 : size;
  return error;
}
E cudaFreeHost(void *p) { free(p); return 0; }
E cudaMemGetInfo(size_t *available, size_t *total) { *available = *total = 1ull << 34; return 0; }
E cudaMemcpy(void *to, const void *from, size_t n, enum cudaMemcpyKind kind) { memmove(to, from, n); return 0; }
E cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind kind, cudaStream_t stream) {
  /* Where no kernel runs, nothing on the device is worth a copy to another place there. */
  if (kind != cudaMemcpyDeviceToDevice || !getenv("STAND_IN_LAUNCHES")) memmove(to, from, n);
  return 0;
}
E cudaMemset(void *to, int value, size_t n) { memset(to, value, n); return 0; }
E cudaMemsetAsync(void *to, int value, size_t n, cudaStream_t stream) { memset(to, value, n); return 0; }
E cudaMemcpyToSymbol(const void *to, const void *from, size_t n, size_t at, enum cudaMemcpyKind kind) DONE
E cudaGetSymbolAddress(void **p, const void *symbol) { static char room[4096]; *p = room; return 0; }
E cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p) {
  memset(a, 0, sizeof *a);
  a->type = cudaMemoryTypeUnregistered;
  for (unsigned i = 0; i < count && i < 1 << 14; i++)
    if ((char *)p >= pinned[i].start && (char *)p < pinned[i].start + pinned[i].size) a->type = cudaMemoryTypeHost;
  return 0;
}

/* Streams and events. */
static size_t last = 4096;
E cudaEventCreate(cudaEvent_t *event) { *event = (cudaEvent_t)(last += 64); return 0; }
E cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) { return cudaEventCreate(event); }
E cudaEventDestroy(cudaEvent_t event) DONE
E cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) { *ms = 1; return 0; }
E cudaEventQuery(cudaEvent_t event) DONE
E cudaEventRecord(cudaEvent_t event, cudaStream_t stream) DONE
E cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) DONE
E cudaEventSynchronize(cudaEvent_t event) DONE
E cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) { *stream = (cudaStream_t)(last += 64); return 0; }
E cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
  return cudaStreamCreateWithFlags(stream, flags);
}
E cudaStreamDestroy(cudaStream_t stream) DONE
E cudaStreamQuery(cudaStream_t stream) DONE
E cudaStreamSynchronize(cudaStream_t stream) DONE
E cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) DONE
E cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
  *status = cudaStreamCaptureStatusNone;
  return 0;
}
E cudaStreamGetCaptureInfo(
    cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id, cudaGraph_t *graph,
    const cudaGraphNode_t **nodes, const cudaGraphEdgeData **edges, size_t *n) {
  return cudaStreamIsCapturing(stream, status);
}
E cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) DONE

/* Kernels, which are counted. */
unsigned long stand_in_launches;
static E launch(void) {
  __sync_fetch_and_add(&stand_in_launches, 1);
  if (getenv("STAND_IN_LAUNCHES")) return 0;
  fputs("stand-in GPU: a kernel was launched that startup/sitecustomize.py does not replace\n", stderr);
  abort();
}
E cudaLaunchKernel(const void *kernel, struct dim3 grid, struct dim3 block, void **given, size_t shared, cudaStream_t s) {
  return launch();
}
E __cudaGetKernel(cudaKernel_t *kernel, const void *host) { *kernel = (cudaKernel_t)host; return 0; }
E __cudaLaunchKernel(
    cudaKernel_t kernel, struct dim3 grid, struct dim3 block, void **given, size_t shared, cudaStream_t stream) {
  return launch();
}
E cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *kernel, void **given) { return launch(); }
E cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *kernel) {
  memset(a, 0, sizeof *a);
  a->ptxVersion = a->binaryVersion = 90;
  a->maxThreadsPerBlock = 1024;
  a->numRegs = 32;
  return 0;
}
E cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value) DONE
E cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *kernel, int b, size_t s, unsigned flags) {
  *n = 4;
  return 0;
}

/* The driver, as far as the runtime is asked for it; see driver.c. */
static int driver(void) DONE
E cudaGetDriverEntryPointByVersion(
    const char *name, void **function, unsigned version, unsigned long long flags,
    enum cudaDriverEntryPointQueryResult *result) {
  *function = (void *)driver;
  if (result) *result = cudaDriverEntryPointSuccess;
  return 0;
}

/* cuBLAS, as far as results are pointed to; run.py adds the rest. */
int cublasCreate_v2(void **handle) { *handle = (void *)16; return 0; }
int cublasLtMatmulDescCreate(void **made) { *made = (void *)16; return 0; }
int cublasLtMatmulPreferenceCreate(void **made) { *made = (void *)16; return 0; }
int cublasLtMatrixLayoutCreate(void **made) { *made = (void *)16; return 0; }
int cublasGetMathMode(void *handle, int *mode) { *mode = 0; return 0; }
int cublasGetPointerMode_v2(void *handle, int *mode) { *mode = 0; return 0; }
int cublasLtMatmulAlgoGetHeuristic(
    void *handle, void *d, void *a, void *b, void *c, void *e, void *preference, int n, void *results, int *found) {
  memset(results, 0, 64);
  *found = 1;
  return 0;
}

/* cuDNN. */
#define RESERVE 4096
static S refuse(const char *what) { fprintf(stderr, "stand-in cuDNN: %s\n", what); return CUDNN_STATUS_BAD_PARAM; }
S cudnnCreate(cudnnHandle_t *handle) { *handle = (cudnnHandle_t)16; return 0; }
S cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) DONE
S cudnnGetStream(cudnnHandle_t handle, cudaStream_t *stream) { *stream = 0; return 0; }
S cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *made) { *made = (cudnnTensorDescriptor_t)16; return 0; }
S cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t descriptor) DONE
S cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t d, cudnnDataType_t type, int n, const int sizes[], const int s[]) DONE
S cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops, const cudnnTensorDescriptor_t x,
    const cudnnTensorDescriptor_t z, const cudnnTensorDescriptor_t y, const cudnnTensorDescriptor_t statistics,
    const cudnnActivationDescriptor_t activation, size_t *size) { *size = 64; return 0; }
S cudnnGetBatchNormalizationTrainingExReserveSpaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops,
    const cudnnActivationDescriptor_t activation, const cudnnTensorDescriptor_t x, size_t *size) {
  *size = RESERVE;
  return 0;
}
S cudnnGetBatchNormalizationBackwardExWorkspaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops, const cudnnTensorDescriptor_t x,
    const cudnnTensorDescriptor_t y, const cudnnTensorDescriptor_t dy, const cudnnTensorDescriptor_t dz,
    const cudnnTensorDescriptor_t dx, const cudnnTensorDescriptor_t statistics,
    const cudnnActivationDescriptor_t activation, size_t *size) { *size = 64; return 0; }
S cudnnBatchNormalizationForwardTrainingEx(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops, const void *alpha, const void *beta,
    const cudnnTensorDescriptor_t x_descriptor, const void *x, const cudnnTensorDescriptor_t z_descriptor, const void *z,
    const cudnnTensorDescriptor_t y_descriptor, void *y, const cudnnTensorDescriptor_t statistics, const void *scale,
    const void *bias, double momentum, void *running_mean, void *running_var, double epsilon, void *mean, void *deviation,
    cudnnActivationDescriptor_t activation, void *workspace, size_t workspace_size, void *reserve, size_t reserve_size) {
  if (!mean || !deviation) return refuse("no room for the statistics that the backward pass needs");
  if (!reserve || reserve_size < RESERVE) return refuse("the reserve is too small");
  memset(reserve, 7, RESERVE);
  fputs("stand-in cuDNN: forward\n", stderr);
  return 0;
}
S cudnnBatchNormalizationBackwardEx(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t ops, const void *alpha_data,
    const void *beta_data, const void *alpha, const void *beta, const cudnnTensorDescriptor_t x_descriptor, const void *x,
    const cudnnTensorDescriptor_t y_descriptor, const void *y, const cudnnTensorDescriptor_t dy_descriptor, const void *dy,
    const cudnnTensorDescriptor_t dz_descriptor, void *dz, const cudnnTensorDescriptor_t dx_descriptor, void *dx,
    const cudnnTensorDescriptor_t statistics, const void *scale, const void *bias, void *d_scale, void *d_bias,
    double epsilon, const void *mean, const void *deviation, cudnnActivationDescriptor_t activation, void *workspace,
    size_t workspace_size, void *reserve, size_t reserve_size) {
  if (!mean || !deviation) return refuse("the statistics of the forward pass are missing");
  if (!reserve || reserve_size < RESERVE || *(char *)reserve != 7) return refuse("the reserve is not that of the forward pass");
  fputs("stand-in cuDNN: backward\n", stderr);
  return 0;
}
