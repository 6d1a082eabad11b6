// A libnvidia-ml for tests: tells the machine that TANDEM_FAKE_NVML names. Built twice; with FAKE_NVML_OLD it lacks the
// functions that drivers of 2018 lack.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "worker/topology/nvml_types.h"

namespace {

using tandem::worker::nvml::Device;
using tandem::worker::nvml::Return;
namespace nvml = tandem::worker::nvml;

std::string machine;

bool Is(const char* name) { return machine == name; }
int Index(Device device) { return static_cast<int>(reinterpret_cast<char*>(device) - static_cast<char*>(nullptr)) - 1; }
int Count() { return Is("h100") || Is("dgx1") ? 8 : Is("none") ? 0 : 2; }
// "emulated": the devices of tests/emulation, two of them, bridged; their memory is CUDA's to tell.
unsigned Bus(int index) { return Is("emulated") ? index + 1 : 0x10 + index * 0x11; }
std::string Uuid(int index) {
  char text[64];
  std::snprintf(text, sizeof(text), Is("emulated") ? "GPU-7a4d0000-0000-4000-8000-%012x" : "GPU-%d",
                Is("emulated") ? index + 1 : index);
  return text;
}

// The links of a DGX-1V: which GPU each of the six leads to, the second of a pair twice where it is double.
constexpr int kMesh[8][6] = {{1, 2, 3, 3, 4, 4}, {0, 2, 2, 3, 5, 5}, {0, 1, 1, 3, 3, 6}, {0, 0, 1, 2, 2, 7},
                             {0, 0, 5, 6, 7, 7}, {1, 1, 4, 6, 6, 7}, {2, 4, 5, 5, 7, 7}, {3, 4, 4, 5, 6, 6}};

// The device at the far end of a link; -1 a switch, -2 no such link.
int Far(int device, unsigned link) {
  if (Is("h100")) return link < 18 ? -1 : -2;
  if (Is("dgx1")) return link < 6 ? kMesh[device][link] : -2;
  if (Is("bridge") || Is("emulated") || Is("mig") || Is("flapping")) {
    const unsigned links = Is("flapping") && device == 1 ? 3 : 4;
    return link < links ? 1 - device : -2;
  }
  return -2;
}

void FillPci(int index, nvml::PciInfo* pci) {
  *pci = {};
  pci->bus = Bus(index);
  std::snprintf(pci->bus_id, sizeof(pci->bus_id), "00000000:%02X:00.0", pci->bus);
}

// TANDEM_FAKE_NVML_HEALTH names a file, read at every call: "INDEX WORD NUMBERS" a line. Words: lost, down LINK..,
// linkerrors N, used MIB, holds PID MIB, throttle MASK, remap PENDING FAILED, pages, ecc N, xid N.. (each once, in the
// order of the line).
bool Ails(Device device, const std::string& what, std::vector<unsigned long long>* numbers = nullptr) {
  const char* path = std::getenv("TANDEM_FAKE_NVML_HEALTH");
  if (path == nullptr) return false;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    int index = -1;
    std::string word;
    if (!(words >> index >> word) || index != Index(device) || word != what) continue;
    for (unsigned long long number; numbers != nullptr && words >> number;) numbers->push_back(number);
    return true;
  }
  return false;
}

}  // namespace

extern "C" {

Return nvmlInit_v2() {
  const char* name = std::getenv("TANDEM_FAKE_NVML");
  machine = name == nullptr ? "" : name;
  return Is("no driver") ? 9 : 0;
}
Return nvmlShutdown() { return 0; }
const char* nvmlErrorString(Return error) {
  return error == 9 ? "Driver Not Loaded" : error == nvml::kGpuIsLost ? "GPU is lost" : "Unknown Error";
}
Return nvmlDeviceGetCount_v2(unsigned* count) {
  *count = static_cast<unsigned>(Count());
  return 0;
}
Return nvmlDeviceGetHandleByIndex_v2(unsigned index, Device* device) {
  if (Is("lost") && index == 0) return nvml::kGpuIsLost;
  *device = reinterpret_cast<Device>(static_cast<char*>(nullptr) + index + 1);
  return 0;
}
Return nvmlDeviceGetName(Device, char* name, unsigned length) {
  const char* text = Is("h100") ? "NVIDIA H100 80GB HBM3" : Is("dgx1") ? "Tesla V100" : "NVIDIA GeForce RTX 3090";
  std::snprintf(name, length, "%s", text);
  return 0;
}
Return nvmlDeviceGetUUID(Device device, char* uuid, unsigned length) {
  std::snprintf(uuid, length, "%s", Uuid(Index(device)).c_str());
  return 0;
}
Return nvmlSystemGetDriverVersion(char* version, unsigned length) {
  std::snprintf(version, length, "580.65.06");
  return 0;
}
Return nvmlDeviceGetHandleByUUID(const char* uuid, Device* device) {
  for (int index = 0; index < Count(); ++index) {
    if (Uuid(index) == uuid) return nvmlDeviceGetHandleByIndex_v2(index, device);
  }
  return 6;
}
Return nvmlDeviceGetPciInfo_v3(Device device, nvml::PciInfo* pci) {
  FillPci(Index(device), pci);
  return 0;
}
Return nvmlDeviceGetMemoryInfo(Device device, nvml::Memory* memory) {
  if (Ails(device, "lost")) return nvml::kGpuIsLost;
  if (Is("emulated")) return nvml::kNotSupported;
  if (Is("errors")) return 999;
  *memory = {24ull << 30, 23ull << 30, 1ull << 30};
  return 0;
}
Return nvmlDeviceGetTopologyCommonAncestor(Device a, Device b, int* level) {
  if (Is("errors")) return 999;
  *level = Index(a) / 4 == Index(b) / 4 ? nvml::kMultiple : nvml::kSystem;
  if (Count() == 2) *level = nvml::kHostBridge;
  return 0;
}
Return nvmlDeviceGetNvLinkState(Device device, unsigned link, int* active) {
  if (Is("errors")) return 999;
  *active = 1;
  std::vector<unsigned long long> down;
  if (Ails(device, "down", &down)) {
    for (const unsigned long long one : down) {
      if (one == link) *active = 0;
    }
  }
  return Far(Index(device), link) == -2 ? nvml::kNotSupported : 0;
}
Return nvmlDeviceGetNvLinkRemotePciInfo_v2(Device device, unsigned link, nvml::PciInfo* pci) {
  const int far = Far(Index(device), link);
  if (far >= 0) {
    FillPci(far, pci);
  } else {
    *pci = {};
    pci->bus = 0xf0 + link % 4;
  }
  return 0;
}
#ifndef FAKE_NVML_OLD
Return nvmlDeviceGetMemoryInfo_v2(Device device, nvml::MemoryV2* memory) {
  if (memory->version != nvml::kMemoryV2) return 25;
  if (Is("errors")) return 999;
  if (Is("emulated")) return nvml::kNotSupported;
  *memory = {memory->version, 80ull << 30, 1ull << 30, 78ull << 30, 1ull << 30};
  std::vector<unsigned long long> used;
  if (Ails(device, "used", &used) && !used.empty()) memory->free -= used[0] << 20, memory->used += used[0] << 20;
  return 0;
}
Return nvmlDeviceGetNvLinkRemoteDeviceType(Device device, unsigned link, int* type) {
  *type = Far(Index(device), link) == -1 ? nvml::kRemoteSwitch : nvml::kRemoteGpu;
  return 0;
}
Return nvmlDeviceGetP2PStatus(Device, Device, int, int* status) {
  if (Is("errors")) return 999;
  *status = Is("no p2p") || Is("bridge off") ? nvml::kPeerNoChipset : nvml::kPeerOk;
  return 0;
}
Return nvmlDeviceGetMemoryAffinity(Device device, unsigned, unsigned long* nodes, unsigned) {
  if (Is("errors")) return 999;
  nodes[0] = 1ul << (Index(device) / 4);
  return 0;
}
// TANDEM_FAKE_NVML_PROCESSES: "pid:MiB pid:MiB"; what a test says of the first device.
Return nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned* count, nvml::ProcessInfo* processes) {
  const char* text = std::getenv("TANDEM_FAKE_NVML_PROCESSES");
  const unsigned room = *count;
  *count = 0;
  std::vector<unsigned long long> holds;
  if (Ails(device, "holds", &holds) && holds.size() == 2 && room > 0) {
    processes[(*count)++] = {static_cast<unsigned>(holds[0]), holds[1] << 20, 0, 0};
    return 0;
  }
  if (Index(device) != 0 || text == nullptr) return 0;
  unsigned pid = 0, used = 0;
  for (int length = 0; *count < room && std::sscanf(text, "%u:%u%n", &pid, &used, &length) == 2; text += length) {
    processes[(*count)++] = {pid, static_cast<unsigned long long>(used) << 20, 0, 0};
  }
  return 0;
}
Return nvmlDeviceGetNvLinkErrorCounter(Device device, unsigned link, unsigned counter, unsigned long long* count) {
  std::vector<unsigned long long> errors;
  *count = link == 0 && counter == 0 && Ails(device, "linkerrors", &errors) && !errors.empty() ? errors[0] : 0;
  return 0;
}
Return nvmlDeviceGetCurrentClocksThrottleReasons(Device device, unsigned long long* reasons) {
  std::vector<unsigned long long> mask;
  *reasons = Ails(device, "throttle", &mask) && !mask.empty() ? mask[0] : 0;
  return 0;
}
Return nvmlDeviceGetRemappedRows(Device device, unsigned* corrected, unsigned* uncorrected, unsigned* pending,
                                 unsigned* failed) {
  std::vector<unsigned long long> flags;
  *corrected = *uncorrected = *pending = *failed = 0;
  if (!Ails(device, "remap", &flags) || flags.size() < 2) return 0;
  *uncorrected = 1;
  *pending = static_cast<unsigned>(flags[0]);
  *failed = static_cast<unsigned>(flags[1]);
  return 0;
}
Return nvmlDeviceGetRetiredPagesPendingStatus(Device device, int* pending) {
  *pending = Ails(device, "pages") ? 1 : 0;
  return 0;
}
Return nvmlDeviceGetTotalEccErrors(Device device, int, int, unsigned long long* count) {
  std::vector<unsigned long long> errors;
  *count = Ails(device, "ecc", &errors) && !errors.empty() ? errors[0] : 0;
  return 0;
}

struct FakeEvents {
  Device device = nullptr;
  size_t told = 0;
};
Return nvmlDeviceGetSupportedEventTypes(Device, unsigned long long* types) {
  *types = nvml::kXid;
  return 0;
}
Return nvmlEventSetCreate(nvml::EventSet* set) {
  *set = reinterpret_cast<nvml::EventSet>(new FakeEvents);
  return 0;
}
Return nvmlEventSetFree(nvml::EventSet set) {
  delete reinterpret_cast<FakeEvents*>(set);
  return 0;
}
Return nvmlDeviceRegisterEvents(Device device, unsigned long long, nvml::EventSet set) {
  reinterpret_cast<FakeEvents*>(set)->device = device;
  return 0;
}
Return nvmlEventSetWait_v2(nvml::EventSet set, nvml::EventData* event, unsigned patience_ms) {
  FakeEvents& events = *reinterpret_cast<FakeEvents*>(set);
  std::vector<unsigned long long> xids;
  if (Ails(events.device, "xid", &xids) && events.told < xids.size()) {
    *event = {events.device, nvml::kXid, xids[events.told++], 0, 0};
    return 0;
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(patience_ms < 10 ? patience_ms : 10));
  return nvml::kTimeout;
}
Return nvmlDeviceGetMigMode(Device, unsigned* current, unsigned* pending) {
  if (!Is("mig")) return nvml::kNotSupported;
  *current = *pending = 1;
  return 0;
}
#endif

}  // extern "C"
