/* The driver's part of the stand-in, for what Triton compiles: kernels are loaded and launched in name only. */
#include <cuda.h>

typedef CUresult R;
#define SOMETHING ((void *)16)

R cuDriverGetVersion(int *version) { *version = 13000; return 0; }
R cuDeviceGet(CUdevice *device, int number) { *device = number; return 0; }
R cuCtxGetDevice(CUdevice *device) { *device = 0; return 0; }
R cuCtxGetCurrent(CUcontext *context) { *context = SOMETHING; return 0; }
R cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) { *context = SOMETHING; return 0; }
R cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) { *flags = 0; *active = 1; return 0; }
R cuModuleLoadData(CUmodule *module, const void *image) { *module = SOMETHING; return 0; }
R cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) { *function = SOMETHING; return 0; }
R cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr p) { *(CUdeviceptr *)data = p; return 0; }
R cuGetErrorString(R error, const char **text) { *text = "an error of the stand-in"; return 0; }

R cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1024; break;
    case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = 32; break;
    default: *value = 0;
  }
  return 0;
}

R cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = 9; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 132; break;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *value = 49152; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = 232448; break;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK: *value = 65536; break;
    default: *value = 0;
  }
  return 0;
}
