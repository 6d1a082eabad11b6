// NVIDIA's management library, loaded at run time: its functions, and a session of it.
#ifndef TANDEM_WORKER_TOPOLOGY_NVML_API_H_
#define TANDEM_WORKER_TOPOLOGY_NVML_API_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/topology/nvml_types.h"

namespace tandem::worker::nvml {

// Null members are functions that this driver has not. Thread-safe, as NVML promises.
struct Api {
  Return (*init)();
  Return (*shutdown)();
  const char* (*error_string)(Return);
  Return (*driver_version)(char*, unsigned);
  Return (*count)(unsigned*);
  Return (*handle)(unsigned, Device*);
  Return (*handle_by_uuid)(const char*, Device*);
  Return (*name)(Device, char*, unsigned);
  Return (*uuid)(Device, char*, unsigned);
  Return (*pci)(Device, PciInfo*);
  Return (*memory)(Device, Memory*);
  Return (*memory_v2)(Device, MemoryV2*);
  Return (*common_ancestor)(Device, Device, int*);
  Return (*nvlink_state)(Device, unsigned, int*);
  Return (*nvlink_remote_pci)(Device, unsigned, PciInfo*);
  Return (*nvlink_remote_type)(Device, unsigned, int*);
  Return (*peer_status)(Device, Device, int, int*);
  Return (*memory_affinity)(Device, unsigned, unsigned long*, unsigned);
  Return (*mig_mode)(Device, unsigned*, unsigned*);
  Return (*processes)(Device, unsigned*, ProcessInfo*);
  Return (*utilization)(Device, Utilization*);
  Return (*throttle_reasons)(Device, unsigned long long*);
  Return (*nvlink_errors)(Device, unsigned, unsigned, unsigned long long*);
  Return (*remapped_rows)(Device, unsigned*, unsigned*, unsigned*, unsigned*);
  Return (*pages_pending)(Device, int*);
  Return (*ecc_errors)(Device, int, int, unsigned long long*);
  Return (*event_set_create)(EventSet*);
  Return (*event_set_free)(EventSet);
  Return (*event_set_wait)(EventSet, EventData*, unsigned);
  Return (*register_events)(Device, unsigned long long, EventSet);
  Return (*supported_events)(Device, unsigned long long*);

  std::string Words(Return error) const;
};

// NVML from Open() to the destructor. Each session counts by itself; NVML ends with the last.
class Session {
 public:
  // NOT_FOUND without the library, FAILED_PRECONDITION where it is no NVML or finds no driver.
  static absl::StatusOr<Session> Open(const std::string& library);

  Session(Session&&) = default;
  Session& operator=(Session&&) = default;

  const Api& api() const { return *api_; }
  std::string DriverVersion() const;  // "580.65.06"; empty: not told

 private:
  struct Unload {
    void operator()(void* library) const;
  };
  struct Shutdown {
    void operator()(Api* api) const;
  };
  Session() = default;

  std::unique_ptr<void, Unload> library_;
  std::unique_ptr<Api, Shutdown> api_;  // goes before the library
};

}  // namespace tandem::worker::nvml

#endif  // TANDEM_WORKER_TOPOLOGY_NVML_API_H_
