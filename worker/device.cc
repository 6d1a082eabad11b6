#include "worker/device.h"

#include <openssl/sha.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "worker/exec/free_memory.h"
#include "worker/topology/cpu_topology.h"

namespace tandem::worker {
namespace {

constexpr int kMostDevices = 4096;
constexpr int kMostThreads = 1024;

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return std::string(absl::StripAsciiWhitespace(line));
}

// The value of "name : value" or "name: value kB" in a file of /proc.
std::string Field(const std::string& path, absl::string_view name) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    absl::string_view key = absl::StripAsciiWhitespace(absl::string_view(line).substr(0, colon));
    if (key == name) return std::string(absl::StripAsciiWhitespace(absl::string_view(line).substr(colon + 1)));
  }
  return "";
}

// "123 kB" as bytes; nothing where the field is not there.
std::optional<int64_t> FieldBytes(const std::string& path, absl::string_view name) {
  std::string value = Field(path, name);
  int64_t kib = 0;
  if (!absl::SimpleAtoi(absl::StripSuffix(value, " kB"), &kib)) return std::nullopt;
  return kib * 1024;
}

int64_t RamBytes(const std::string& root) { return FieldBytes(root + "/proc/meminfo", "MemTotal").value_or(0); }

// The tightest limit of this process's control groups (v2, then v1), or nothing.
std::optional<int64_t> GroupLimitBytes(const std::string& root) {
  std::optional<int64_t> least;
  auto consider = [&](const std::string& path) {
    int64_t limit = 0;
    if (absl::SimpleAtoi(FirstLine(path), &limit) && limit > 0) least = std::min(least.value_or(limit), limit);
  };
  std::ifstream file(root + "/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    bool unified = absl::StartsWith(line, "0::");
    size_t memory = line.find(":memory:");
    if (!unified && memory == std::string::npos) continue;
    std::string group = unified ? line.substr(3) : line.substr(memory + 8);
    const std::string base = root + (unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory");
    const char* name = unified ? "/memory.max" : "/memory.limit_in_bytes";
    while (group.size() > 1) {
      consider(base + group + name);
      group.resize(group.rfind('/'));
    }
    consider(base + name);
  }
  return least;
}

std::vector<int> AllowedCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cores;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  }
  return cores;
}

std::string StableUuid(const std::string& root, const std::string& node, int index) {
  return absl::StrCat("CPU-", StableDigest(root, node, absl::StrCat("cpu:", index)));
}

int NumaNodeOf(const std::string& root, int core) {
  for (int node = 0; node < 64; ++node) {
    const std::string folder = absl::StrCat(root, "/sys/devices/system/cpu/cpu", core, "/node", node);
    if (access(folder.c_str(), F_OK) == 0) return node;
  }
  return -1;
}

absl::StatusOr<int> ParseSpec(const std::string& spec) {
  absl::string_view rest = spec;
  int index = 0;
  if (absl::ConsumePrefix(&rest, "cpu:") && absl::SimpleAtoi(rest, &index) && index >= 0 && index < kMostDevices) {
    return index;
  }
  return absl::InvalidArgumentError(absl::StrCat("--device ", spec, ": expected cpu:N with N from 0 to ",
                                                 kMostDevices - 1, ", cuda:N, or sim:MODEL as in sim:RTX3090"));
}

}  // namespace

std::string HostName() {
  char name[256] = "";
  gethostname(name, sizeof(name) - 1);
  return name[0] == '\0' ? "localhost" : name;
}

// The machine's id itself is meant to stay on the machine; its hash says as much to us.
std::string StableDigest(const std::string& root, const std::string& node, const std::string& device) {
  std::string machine = FirstLine(root + "/etc/machine-id");
  if (machine.empty()) machine = FirstLine(root + "/var/lib/dbus/machine-id");
  std::string text = absl::StrCat("tandem device\n", machine, "\n", node, "\n", device);
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<char*>(digest), 16));
}

std::string Device::Name() const { return absl::StrCat(node_, "/", kind_, ":", index_); }

int64_t Device::Budget() const {
  return static_cast<int64_t>(std::floor(static_cast<double>(memory_total_) * memory_utilization_));
}

absl::Status Device::SetShare(double utilization, int64_t reserve) {
  if (!(utilization > 0 && utilization <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--memory-utilization ", utilization, ": expected more than 0 and at most 1"));
  }
  if (reserve < 0 || reserve >= memory_total_) {
    return absl::InvalidArgumentError(absl::StrCat("--reserve ", reserve, ": expected fewer than the ", memory_total_,
                                                   " bytes that ", kind_, ":", index_, " has"));
  }
  memory_utilization_ = utilization * static_cast<double>(memory_total_ - reserve) / static_cast<double>(memory_total_);
  return absl::OkStatus();
}

absl::StatusOr<CpuDevice> CpuDevice::Open(const DeviceOptions& options) {
  absl::StatusOr<int> index = ParseSpec(options.spec);
  if (!index.ok()) return index.status();
  if (options.cpu_devices < 1 || options.cpu_devices > kMostDevices) {
    return absl::InvalidArgumentError(
        absl::StrCat("--cpu-devices ", options.cpu_devices, ": expected 1 to ", kMostDevices));
  }
  if (options.cpu_memory < 0) {
    return absl::InvalidArgumentError(absl::StrCat("--cpu-memory ", options.cpu_memory, ": expected bytes"));
  }
  if (options.cpu_threads < 0 || options.cpu_threads > kMostThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("--cpu-threads ", options.cpu_threads, ": expected 1 to ", kMostThreads));
  }
  CpuDevice device;
  device.root_ = options.root;
  device.kind_ = "cpu";
  device.index_ = *index;
  device.node_ = options.node.empty() ? HostName() : options.node;
  device.uuid_ = StableUuid(options.root, device.node_, *index);
  device.model_ = Field(options.root + "/proc/cpuinfo", "model name");
  if (device.model_.empty()) device.model_ = "CPU";

  int64_t host = RamBytes(options.root);
  if (std::optional<int64_t> limit = GroupLimitBytes(options.root)) host = host > 0 ? std::min(host, *limit) : *limit;
  device.memory_total_ = options.cpu_memory > 0 ? options.cpu_memory : host / options.cpu_devices;
  if (device.memory_total_ <= 0) {
    return absl::InvalidArgumentError("the size of the memory can not be read here; give --cpu-memory BYTES");
  }
  if (absl::Status status = device.SetShare(options.memory_utilization, options.reserve); !status.ok()) return status;

  const std::vector<int> cores = AllowedCores();
  const int share = std::max<int>(1, static_cast<int>(cores.size()) / options.cpu_devices);
  device.threads_ = options.cpu_threads > 0 ? options.cpu_threads : share;
  // A core of its own for each device, or none: two engines bound to one core would be worse than unbound. More threads
  // than one find their places themselves.
  if (device.threads_ == 1 && options.cpu_devices > 1 && options.cpu_devices <= static_cast<int>(cores.size())) {
    device.core_ = cores[*index % cores.size()];
  }
  const CpuTopology topology = ReadCpuTopology(options.root);
  for (int peer = 0; peer < options.cpu_devices; ++peer) {
    if (peer == *index) continue;
    const auto node_of = [&](int i) { return device.core_ ? topology.NodeOf(cores[i % cores.size()]) : -1; };
    device.peers_.push_back({.uuid = StableUuid(options.root, device.node_, peer),
                             .link = topology.LinkBetween(node_of(*index), node_of(peer))});
  }
  if (device.core_) device.numa_node_ = NumaNodeOf(options.root, *device.core_);
  for (const CpuCache& cache : topology.CachesOf(device.core_ ? std::vector<int>{*device.core_} : cores)) {
    device.caches_.push_back({cache.level, cache.bytes, CoreListText(cache.cores)});
  }
  return device;
}

int64_t CpuDevice::FreeBytes() const {
  const int64_t kept_free = memory_total_ - Budget();
  return std::max<int64_t>(0, std::min(Budget() - PrivateBytes(root_), FreeMemoryBytes(root_) - kept_free));
}

int64_t CpuDevice::FreeOfTotal() const {
  return std::max<int64_t>(0, std::min(memory_total_ - PrivateBytes(root_), FreeMemoryBytes(root_)));
}

int64_t CpuDevice::HeldBytes() const { return PrivateBytes(root_); }

int64_t CpuDevice::ExactHeldBytes() const { return ExactPrivateBytes(root_); }

void CpuDevice::PinThread() const {
  if (!core_) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(*core_, &set);
  sched_setaffinity(0, sizeof(set), &set);
}

int64_t PrivateBytes(const std::string& root) {
  // statm: size resident shared, in pages; what is resident and not shared with a file or another process is ours.
  std::ifstream file(root + "/proc/self/statm");
  int64_t size = 0, resident = 0, shared = 0;
  if (!(file >> size >> resident >> shared)) return 0;
  return std::max<int64_t>(0, resident - shared) * sysconf(_SC_PAGESIZE);
}

int64_t ExactPrivateBytes(const std::string& root) {
  const std::optional<int64_t> anonymous = FieldBytes(root + "/proc/self/smaps_rollup", "Anonymous");
  return anonymous ? *anonymous : PrivateBytes(root);
}

}  // namespace tandem::worker
