#include "worker/sim_device.h"

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tandem::worker {
namespace {

constexpr absl::string_view kPrefix = "sim:";
constexpr int kMostIndex = 4095;

}  // namespace

bool SimDevice::IsSim(absl::string_view spec) { return absl::StartsWith(spec, kPrefix); }

absl::StatusOr<std::unique_ptr<SimDevice>> SimDevice::Open(const SimDeviceOptions& options) {
  const auto wrong = [&options](auto... words) {
    return absl::InvalidArgumentError(absl::StrCat("--device ", options.spec, ": ", words...));
  };
  absl::string_view name = options.spec;
  if (!absl::ConsumePrefix(&name, kPrefix)) return wrong("expected sim:MODEL or sim:MODEL:INDEX");
  int index = 0;
  if (const size_t colon = name.find(':'); colon != absl::string_view::npos) {
    if (!absl::SimpleAtoi(name.substr(colon + 1), &index) || index < 0 || index > kMostIndex) {
      return wrong("\"", name.substr(colon + 1), "\" is no index from 0 to ", kMostIndex);
    }
    name = name.substr(0, colon);
  }
  const placement::Chip* chip = placement::FindChip(name);
  if (chip == nullptr) return wrong("no chip \"", name, "\" is known; known are ", placement::KnownChips());
  const int64_t memory = options.memory != 0 ? options.memory : chip->memory_bytes;
  if (memory == 0) return wrong(chip->name, " comes in several sizes; give --sim-memory, as 80GiB");
  if (memory < 0) return absl::InvalidArgumentError(absl::StrCat("--sim-memory ", memory, ": expected bytes"));

  std::unique_ptr<SimDevice> device(new SimDevice());
  device->node_ = options.node.empty() ? HostName() : options.node;
  device->kind_ = "sim";
  device->index_ = index + options.offset;
  device->model_ = chip->name;
  const std::string of_node = absl::StrCat(kPrefix, chip->name, ":", device->index_);
  device->uuid_ = absl::StrCat("SIM-", StableDigest("", device->node_, of_node));
  device->memory_total_ = memory;
  if (absl::Status status = device->SetShare(options.memory_utilization, options.reserve); !status.ok()) return status;
  device->chip_ = chip;
  return device;
}

}  // namespace tandem::worker
