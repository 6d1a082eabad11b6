#include "worker/topology/nvml_health.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tandem::worker {
namespace {

constexpr unsigned kEventWait = 250;  // ms
constexpr int kMostEvents = 64;       // taken in one look: a kernel that fails in a loop says so thousands of times
constexpr int kHotLooks = 3, kCoolLooks = 10;
constexpr int kQuietLooks = 120;  // a minute, with the waits

constexpr unsigned long long kWanted = nvml::kXid | nvml::kDoubleBitEcc;

}  // namespace

NvmlHealth::NvmlHealth(const NvmlDeviceMonitor* device) : device_(device), api_(device->api()) {
  if (api_.event_set_create == nullptr || api_.event_set_wait == nullptr || api_.register_events == nullptr) return;
  unsigned long long known = kWanted;
  if (api_.supported_events != nullptr) api_.supported_events(device_->handle(), &known);
  if ((known & kWanted) == 0 || api_.event_set_create(&events_) != nvml::kSuccess) {
    events_ = nullptr;
  } else if (api_.register_events(device_->handle(), known & kWanted, events_) != nvml::kSuccess) {
    api_.event_set_free(std::exchange(events_, nullptr));
  }
}

NvmlHealth::~NvmlHealth() {
  if (events_ != nullptr && api_.event_set_free != nullptr) api_.event_set_free(events_);
}

std::vector<HealthReport> NvmlHealth::Look() {
  ecc_told_ = false;
  TakeEvents();
  if (LookForDevice()) {
    LookAtLinks();
    LookAtClocks();
    LookAtMemory();
    first_ = false;
  }
  return std::exchange(news_, {});
}

void NvmlHealth::Say(const std::string& code, bool there, const std::string& message, int on, int off) {
  Condition& condition = conditions_[code];
  condition.agree = there == condition.told ? 0 : condition.agree + 1;
  if (condition.agree < (there ? on : off)) return;
  if (there == condition.told) return;
  condition = {there, 0};
  news_.push_back({code, there ? message : "", true, !there});
}

void NvmlHealth::Happened(const std::string& code, const std::string& message) {
  const auto same = [&](const HealthReport& report) { return report.code == code; };
  if (std::none_of(news_.begin(), news_.end(), same)) news_.push_back({code, message, false, false});
}

void NvmlHealth::TakeEvents() {
  for (int i = 0; events_ != nullptr && i < kMostEvents; ++i) {
    nvml::EventData event{};
    const nvml::Return result = api_.event_set_wait(events_, &event, i == 0 ? kEventWait : 0);
    if (result == nvml::kTimeout) return;
    if (result != nvml::kSuccess) return;  // a card that is lost; the look for it says so
    if (event.type == nvml::kXid) {
      Happened(absl::StrCat("XID ", event.data), "by the driver's event");
    } else if (event.type == nvml::kDoubleBitEcc) {
      Happened("ecc-uncorrected", "by the driver's event");
      ecc_told_ = true;
    }
  }
}

// What the library may answer from what it remembers would not tell that the card is gone; its memory is asked for.
bool NvmlHealth::LookForDevice() {
  nvml::Memory memory{};
  if (api_.memory == nullptr) return true;
  const nvml::Return result = api_.memory(device_->handle(), &memory);
  Say("device-lost", result == nvml::kGpuIsLost, "NVML: the GPU is lost");
  return result != nvml::kGpuIsLost;
}

void NvmlHealth::LookAtLinks() {
  if (api_.nvlink_state == nullptr) return;
  std::vector<int> down;
  unsigned long long more = 0;
  const unsigned most = first_ ? nvml::kMostNvLinks : static_cast<unsigned>(links_up_.size());
  for (unsigned link = 0; link < most; ++link) {
    int up = 0;
    if (api_.nvlink_state(device_->handle(), link, &up) != nvml::kSuccess) {
      if (first_) break;  // no such link, and none behind it
      continue;
    }
    if (first_) links_up_.push_back(up), link_errors_.push_back(0);
    if (links_up_[link] != 0 && up == 0) down.push_back(static_cast<int>(link));
    links_up_[link] |= up;
    unsigned long long errors = 0;
    for (unsigned counter = 0; counter < nvml::kNvLinkErrorCounters && api_.nvlink_errors != nullptr; ++counter) {
      unsigned long long count = 0;
      if (api_.nvlink_errors(device_->handle(), link, counter, &count) == nvml::kSuccess) errors += count;
    }
    if (!first_ && errors > link_errors_[link]) more += errors - link_errors_[link];
    link_errors_[link] = errors;
  }
  Say("nvlink-down", !down.empty(), absl::StrCat("of ", links_up_.size(), " NVLinks: ", absl::StrJoin(down, ", ")));
  Say("nvlink-errors", more > 0, absl::StrCat(more, " more errors in one look"), 1, kQuietLooks);
}

void NvmlHealth::LookAtClocks() {
  unsigned long long reasons = 0;
  if (api_.throttle_reasons == nullptr) return;
  if (api_.throttle_reasons(device_->handle(), &reasons) != nvml::kSuccess) return;
  const auto say = [&](const char* code, unsigned long long reason, const char* message) {
    Say(code, (reasons & reason) != 0, message, kHotLooks, kCoolLooks);
  };
  say("thermal-hardware", nvml::kHardwareThermalSlowdown, "hardware thermal slowdown");
  say("thermal-software", nvml::kSoftwareThermalSlowdown, "software thermal slowdown");
  say("power-brake", nvml::kHardwarePowerBrake, "hardware power brake");
}

void NvmlHealth::LookAtMemory() {
  unsigned corrected = 0, uncorrected = 0, pending = 0, failed = 0;
  if (api_.remapped_rows != nullptr &&
      api_.remapped_rows(device_->handle(), &corrected, &uncorrected, &pending, &failed) == nvml::kSuccess) {
    const std::string rows = absl::StrCat(corrected + uncorrected, " rows replaced so far");
    Say("row-remap-pending", pending != 0, rows);
    Say("row-remap-failed", failed != 0, rows);
  }
  int pages = 0;
  if (api_.pages_pending != nullptr && api_.pages_pending(device_->handle(), &pages) == nvml::kSuccess) {
    Say("pages-pending", pages != 0, "pages wait for their retirement");
  }
  unsigned long long errors = 0;
  if (api_.ecc_errors != nullptr &&
      api_.ecc_errors(device_->handle(), nvml::kUncorrected, nvml::kSinceReset, &errors) == nvml::kSuccess) {
    if (!first_ && errors > ecc_errors_ && !ecc_told_) {
      Happened("ecc-uncorrected", absl::StrCat(errors - ecc_errors_, " more, ", errors, " since the last reset"));
    }
    ecc_errors_ = errors;
  }
}

}  // namespace tandem::worker
