#include "worker/cuda_plugin.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tandem::worker {

std::string CudaPluginPath() {
  if (const char* path = std::getenv("TANDEM_CUDA_PLUGIN"); path != nullptr && *path != '\0') return path;
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  return (program.parent_path().parent_path() / "lib" / "libtandem_cuda.so").string();
}

absl::StatusOr<const CudaPlugin*> LoadCudaPlugin(const std::string& path) {
  if (access(path.c_str(), F_OK) != 0) {
    return absl::NotFoundError(absl::StrCat("there is no CUDA plugin at ", path,
                                            ": this build was made without the CUDA toolkit (TANDEM_CUDA)"));
  }
  // Its symbols stay its own: it has copies of what it shares with this program.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("the CUDA plugin does not load: ", dlerror()));
  }
  const auto door = reinterpret_cast<CudaPluginDoor>(dlsym(library, kCudaPluginDoor));
  if (door == nullptr) {
    dlclose(library);
    return absl::FailedPreconditionError(absl::StrCat(path, " is no CUDA plugin of tandem"));
  }
  const CudaPlugin* plugin = door();
  const bool same_abi = plugin->abi == kCudaPluginAbi;
  if (!same_abi || std::string(plugin->build) != TANDEM_CUDA_PLUGIN_BUILD) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is of another build: interface ", plugin->abi,
                                                      same_abi ? absl::StrCat(" of ", plugin->build) : "", "; this is ",
                                                      kCudaPluginAbi, " of ", TANDEM_CUDA_PLUGIN_BUILD));
  }
  return plugin;
}

}  // namespace tandem::worker
