// The door of libtandem_cuda.so. backend.h says what goes through it.
#include "worker/cuda/backend.h"
#include "worker/cuda/device_handle.h"
#include "worker/cuda/device_list.h"

extern "C" __attribute__((visibility("default"))) const tandem::worker::CudaPlugin* tandem_cuda_plugin() {
  static const tandem::worker::CudaPlugin plugin = {
      .abi = tandem::worker::kCudaPluginAbi,
      .build = TANDEM_CUDA_PLUGIN_BUILD,
      .list_devices = tandem::worker::ListCudaDevices,
      .open_device = tandem::worker::OpenCudaDevice,
  };
  return &plugin;
}
