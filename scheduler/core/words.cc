#include "scheduler/core/words.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tandem::core {

std::string Words(Bytes bytes) {
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
  const int64_t n = bytes.value;
  if (n < 1024) return absl::StrCat(n, " B");
  int unit = 0;
  int64_t tenths = n / 1024 * 10 + n % 1024 * 10 / 1024;
  while (tenths >= 10240 && unit < 3) tenths /= 1024, ++unit;
  return absl::StrCat(tenths / 10, ".", tenths % 10, " ", kUnits[unit]);
}

std::string Words(Duration duration) {
  const int64_t ms = std::max<int64_t>(0, duration.us) / 1000;
  if (ms < 1000) return absl::StrCat(ms, " ms");
  if (ms % 1000 == 0 || ms >= 10000) return absl::StrCat((ms + 500) / 1000, " s");
  return absl::StrCat(ms / 1000, ".", ms % 1000 / 100, " s");
}

const char* Words(DeviceState state) {
  static constexpr const char* kWords[] = {"STARTING", "ACTIVE", "DRAINING", "DRAINED", "FAILED", "LOST"};
  return kWords[static_cast<int>(state)];
}

const char* Words(GroupState state) {
  static constexpr const char* kWords[] = {"FORMING", "LOADING", "READY", "DRAINING", "DISSOLVED"};
  return kWords[static_cast<int>(state)];
}

const char* Words(RequestState state) {
  static constexpr const char* kWords[] = {"QUEUED",   "ASSIGNED", "RUNNING",  "MIGRATING",
                                           "FINISHED", "FAILED",   "CANCELLED"};
  return kWords[static_cast<int>(state)];
}

const char* Words(Reason reason) {
  switch (reason) {
    case Reason::kNone:
      return "NONE";
    case Reason::kInvalidParameter:
      return "INVALID_PARAMETER";
    case Reason::kContextLengthExceeded:
      return "CONTEXT_LENGTH_EXCEEDED";
    case Reason::kModelNotFound:
      return "MODEL_NOT_FOUND";
    case Reason::kTenantLimit:
      return "TENANT_LIMIT";
    case Reason::kQueueFull:
      return "QUEUE_FULL";
    case Reason::kDraining:
      return "DRAINING";
    case Reason::kNoCapacity:
      return "NO_CAPACITY";
    case Reason::kModelLoading:
      return "MODEL_LOADING";
    case Reason::kDrainAborted:
      return "DRAIN_ABORTED";
    case Reason::kWorkerLost:
      return "WORKER_LOST";
    case Reason::kDeadlineUnreachable:
      return "DEADLINE_UNREACHABLE";
    case Reason::kDeadlineExceeded:
      return "DEADLINE_EXCEEDED";
    case Reason::kEngineFault:
      return "ENGINE_FAULT";
    case Reason::kWouldLoseLastReplica:
      return "WOULD_LOSE_LAST_REPLICA";
    case Reason::kNeverFits:
      return "NEVER_FITS";
    case Reason::kModelMismatch:
      return "MODEL_MISMATCH";
    case Reason::kCancelled:
      return "CANCELLED";
    case Reason::kNotFound:
      return "NOT_FOUND";
    case Reason::kModelUnusable:
      return "MODEL_UNUSABLE";
  }
  return "NONE";
}

std::string Hex(RequestId id) { return absl::StrFormat("%016x%016x", id.hi, id.lo); }
std::string Name(RequestId id) { return absl::StrCat("requests/", Hex(id)); }
std::string Name(GroupId id) {
  const uint64_t leader = id.value >> 32;
  return absl::StrCat("groups/", leader == 0 ? "" : absl::StrCat(leader, "."), id.value & 0xffffffff);
}
std::string Name(const Model& model) { return absl::StrCat("models/", model.spec.name); }
std::string Name(const ClusterState& state, DeviceId id) { return state.At(id).spec.Name(); }

std::string List(const std::vector<std::string>& items, size_t most) {
  std::string text;
  const size_t shown = items.size() > most ? most : items.size();
  for (size_t i = 0; i < shown; ++i) {
    const bool last = i + 1 == items.size();
    absl::StrAppend(&text, i == 0 ? "" : last ? " and " : ", ", items[i]);
  }
  if (shown < items.size()) absl::StrAppend(&text, " and ", items.size() - shown, " more");
  return text;
}

std::string List(const ClusterState& state, const std::vector<DeviceId>& devices, size_t most) {
  std::vector<std::string> names;
  for (DeviceId id : devices) names.push_back(Name(state, id));
  return List(names, most);
}

std::vector<DeviceId> DevicesOf(const Group& group) {
  std::vector<DeviceId> devices;
  for (const Member& member : group.members) devices.push_back(member.device);
  return devices;
}

std::string Count(int64_t n, absl::string_view noun) { return absl::StrCat(n, " ", noun, n == 1 ? "" : "s"); }

}  // namespace tandem::core
