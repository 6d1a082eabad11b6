// The few types and values of NVML that are used here, declared anew so that no NVIDIA header is needed to build.
// Layouts and values follow nvml.h of CUDA 12 (API version 12: nvmlPciInfo_t with the 32-byte busId, nvmlMemory_v2_t
// with the version word 2 << 24 | size); these have not changed since they were introduced, as NVML promises.
#ifndef TANDEM_WORKER_TOPOLOGY_NVML_TYPES_H_
#define TANDEM_WORKER_TOPOLOGY_NVML_TYPES_H_

namespace tandem::worker::nvml {

using Return = int;
inline constexpr Return kSuccess = 0;
inline constexpr Return kInvalidArgument = 2;
inline constexpr Return kInsufficientSize = 7;
inline constexpr Return kTimeout = 10;
inline constexpr Return kNotSupported = 3;
inline constexpr Return kGpuIsLost = 15;

using Device = struct Opaque*;

struct PciInfo {
  char bus_id_legacy[16];
  unsigned domain, bus, device;
  unsigned pci_device_id, pci_subsystem_id;
  char bus_id[32];
};
struct Memory {
  unsigned long long total, free, used;
};
struct MemoryV2 {
  unsigned version;
  unsigned long long total, reserved, free, used;
};
inline constexpr unsigned kMemoryV2 = sizeof(MemoryV2) | 2u << 24;

// nvmlProcessInfo_t as of _v3 of the calls that fill it. `memory` is kNotAvailable where the driver does not tell.
struct ProcessInfo {
  unsigned pid;
  unsigned long long memory;
  unsigned gpu_instance, compute_instance;
};
inline constexpr unsigned long long kNotAvailable = ~0ull;
struct Utilization {
  unsigned gpu, memory;  // percent of the last sample period
};

// nvmlEventType_t, as a mask
enum EventType : unsigned long long {
  kSingleBitEcc = 0x1,
  kDoubleBitEcc = 0x2,
  kXid = 0x8,
};
using EventSet = struct OpaqueEventSet*;
struct EventData {
  Device device;
  unsigned long long type;
  unsigned long long data;  // of an XID its number
  unsigned gpu_instance, compute_instance;
};
// nvmlClocksThrottleReasons: the hardware slows the clocks down, or cuts them, because it is too hot
inline constexpr unsigned long long kHardwareThermalSlowdown = 0x40;
inline constexpr unsigned long long kSoftwareThermalSlowdown = 0x20;
inline constexpr unsigned long long kHardwarePowerBrake = 0x80;
// nvmlNvLinkErrorCounter_t: replays, recoveries, and three kinds of checksum errors
inline constexpr unsigned kNvLinkErrorCounters = 5;
// nvmlMemoryErrorType_t and nvmlEccCounterType_t
inline constexpr int kUncorrected = 1;
inline constexpr int kSinceReset = 0;

// nvmlGpuTopologyLevel_t
enum Level : int { kInternal = 0, kSingle = 10, kMultiple = 20, kHostBridge = 30, kNode = 40, kSystem = 50 };
// nvmlIntNvLinkDeviceType_t
enum RemoteType : int { kRemoteGpu = 0, kRemoteIbmNpu = 1, kRemoteSwitch = 2, kRemoteUnknown = 255 };
// nvmlGpuP2PCapsIndex_t and nvmlGpuP2PStatus_t
enum PeerCapability : int { kPeerRead = 0, kPeerWrite = 1 };
enum PeerStatus : int {
  kPeerOk = 0,
  kPeerNoChipset = 1,
  kPeerNoGpu = 2,
  kPeerNoTopology = 3,
  kPeerDisabled = 4,
  kPeerNotSupported = 5,
  kPeerUnknown = 6,
};
// nvmlAffinityScope_t: 0 is the NUMA node
inline constexpr unsigned kScopeNode = 0;

// NVML_NVLINK_MAX_LINKS is 18 today; a later driver says itself where its links end.
inline constexpr unsigned kMostNvLinks = 36;

}  // namespace tandem::worker::nvml

#endif  // TANDEM_WORKER_TOPOLOGY_NVML_TYPES_H_
