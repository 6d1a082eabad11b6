#include "worker/topology/nvml_api.h"

#include <dlfcn.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tandem::worker::nvml {
namespace {

template <typename Function>
void Resolve(void* library, const char* symbol, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, symbol));
}

Api Resolve(void* library) {
  Api api;
  Resolve(library, "nvmlInit_v2", api.init);
  Resolve(library, "nvmlShutdown", api.shutdown);
  Resolve(library, "nvmlErrorString", api.error_string);
  Resolve(library, "nvmlSystemGetDriverVersion", api.driver_version);
  Resolve(library, "nvmlDeviceGetCount_v2", api.count);
  Resolve(library, "nvmlDeviceGetHandleByIndex_v2", api.handle);
  Resolve(library, "nvmlDeviceGetHandleByUUID", api.handle_by_uuid);
  Resolve(library, "nvmlDeviceGetName", api.name);
  Resolve(library, "nvmlDeviceGetUUID", api.uuid);
  Resolve(library, "nvmlDeviceGetPciInfo_v3", api.pci);
  Resolve(library, "nvmlDeviceGetMemoryInfo", api.memory);
  Resolve(library, "nvmlDeviceGetMemoryInfo_v2", api.memory_v2);
  Resolve(library, "nvmlDeviceGetTopologyCommonAncestor", api.common_ancestor);
  Resolve(library, "nvmlDeviceGetNvLinkState", api.nvlink_state);
  Resolve(library, "nvmlDeviceGetNvLinkRemotePciInfo_v2", api.nvlink_remote_pci);
  Resolve(library, "nvmlDeviceGetNvLinkRemoteDeviceType", api.nvlink_remote_type);
  Resolve(library, "nvmlDeviceGetP2PStatus", api.peer_status);
  Resolve(library, "nvmlDeviceGetMemoryAffinity", api.memory_affinity);
  Resolve(library, "nvmlDeviceGetMigMode", api.mig_mode);
  Resolve(library, "nvmlDeviceGetComputeRunningProcesses_v3", api.processes);
  Resolve(library, "nvmlDeviceGetUtilizationRates", api.utilization);
  // The same under its newer name, and the older one for drivers that have only that.
  Resolve(library, "nvmlDeviceGetCurrentClocksEventReasons", api.throttle_reasons);
  if (api.throttle_reasons == nullptr) {
    Resolve(library, "nvmlDeviceGetCurrentClocksThrottleReasons", api.throttle_reasons);
  }
  Resolve(library, "nvmlDeviceGetNvLinkErrorCounter", api.nvlink_errors);
  Resolve(library, "nvmlDeviceGetRemappedRows", api.remapped_rows);
  Resolve(library, "nvmlDeviceGetRetiredPagesPendingStatus", api.pages_pending);
  Resolve(library, "nvmlDeviceGetTotalEccErrors", api.ecc_errors);
  Resolve(library, "nvmlEventSetCreate", api.event_set_create);
  Resolve(library, "nvmlEventSetFree", api.event_set_free);
  Resolve(library, "nvmlEventSetWait_v2", api.event_set_wait);
  Resolve(library, "nvmlDeviceRegisterEvents", api.register_events);
  Resolve(library, "nvmlDeviceGetSupportedEventTypes", api.supported_events);
  return api;
}

}  // namespace

std::string Api::Words(Return error) const {
  const char* text = error_string == nullptr ? nullptr : error_string(error);
  return text == nullptr ? absl::StrCat("error ", error) : std::string(text);
}

void Session::Unload::operator()(void* library) const { dlclose(library); }

void Session::Shutdown::operator()(Api* api) const {
  if (api->shutdown != nullptr) api->shutdown();
  delete api;
}

absl::StatusOr<Session> Session::Open(const std::string& name) {
  Session session;
  session.library_.reset(dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL));
  if (session.library_ == nullptr) return absl::NotFoundError(absl::StrCat("no NVML: ", dlerror()));
  auto api = std::make_unique<Api>(Resolve(session.library_.get()));
  if (api->init == nullptr || api->count == nullptr || api->handle == nullptr || api->pci == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(name, " is no NVML of driver 418 or later"));
  }
  if (const Return error = api->init(); error != kSuccess) {
    return absl::FailedPreconditionError(absl::StrCat("NVML does not start: ", api->Words(error)));
  }
  session.api_.reset(api.release());
  return session;
}

std::string Session::DriverVersion() const {
  char version[96] = "";
  if (api_->driver_version == nullptr || api_->driver_version(version, sizeof(version) - 1) != kSuccess) return "";
  return version;
}

}  // namespace tandem::worker::nvml
