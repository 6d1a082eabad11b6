#include "worker/cuda/join_devices.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "worker/cuda/nccl_communicator.h"
#include "worker/cuda/solo_device_communicator.h"
#include "worker/cuda/staged_communicator.h"

namespace tandem::worker::cuda {

absl::StatusOr<std::unique_ptr<DeviceCommunicator>> JoinDevices(Communicator* control, int64_t largest_bytes,
                                                                std::function<void(absl::string_view)> on_lost,
                                                                absl::Duration init_limit, bool windows) {
  if (control->size() == 1) return std::make_unique<SoloDeviceCommunicator>(control);
  const char* word = std::getenv("TANDEM_DEVICE_COMMUNICATOR");
  const std::string choice = word == nullptr || *word == '\0' ? "nccl" : word;
  if (choice == "host") return StagedCommunicator::Create(control, largest_bytes);
  if (choice != "nccl") {
    return absl::InvalidArgumentError(absl::StrCat("TANDEM_DEVICE_COMMUNICATOR=", choice, ": expected nccl or host"));
  }
  const char* const word_on_windows = std::getenv("TANDEM_NCCL_WINDOWS");
  const absl::string_view wish = word_on_windows == nullptr ? "" : word_on_windows;
  if (wish != "" && wish != "on" && wish != "off") {
    return absl::InvalidArgumentError(absl::StrCat("TANDEM_NCCL_WINDOWS=", wish, ": expected on or off"));
  }
  const bool off = !windows || wish == "off";
  // Larger sums are bound by the links, not by meeting.
  constexpr int64_t kLargestWindow = 2 << 20;
  return NcclCommunicator::Join(control, {.init_limit = init_limit,
                                          .window_bytes = off ? 0 : std::min(largest_bytes, kLargestWindow),
                                          .stuck_windows = wish == "on",
                                          .on_lost = std::move(on_lost)});
}

}  // namespace tandem::worker::cuda
