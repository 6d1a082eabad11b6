#include "tests/emulation/access_counts.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <mutex>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace tandem::emulation {
namespace {

std::atomic<bool> counting{false};

struct Counts {
  std::mutex mutex;
  std::vector<KernelCounts> all;
};
Counts& Kept() {
  static Counts* const counts = new Counts;  // Never freed: streams may still run while the process ends.
  return *counts;
}

constexpr const char* kNames[kAccessKinds] = {"shared reads", "shared writes", "global reads", "global writes"};

}  // namespace

void AccessCounts::Add(const AccessCounts& other) {
  requests += other.requests;
  bytes += other.bytes;
  taken += other.taken;
  least += other.least;
}

void KernelCounts::Add(const KernelCounts& other) {
  launches += other.launches;
  blocks += other.blocks;
  barriers += other.barriers;
  for (int i = 0; i < kAccessKinds; ++i) by_kind[i].Add(other.by_kind[i]);
  for (int i = 0; i < 2; ++i) distinct_sectors[i] += other.distinct_sectors[i];
  for (const auto& [place, counts] : other.places) places[place].Add(counts);
}

void CountAccesses(bool on) { counting.store(on); }
bool CountsAccesses() { return counting.load(std::memory_order_relaxed); }

void AddToCounts(const KernelCounts& counts) {
  Counts& kept = Kept();
  const std::lock_guard<std::mutex> lock(kept.mutex);
  const auto known =
      std::find_if(kept.all.begin(), kept.all.end(), [&](const auto& one) { return one.kernel == counts.kernel; });
  if (known == kept.all.end()) {
    kept.all.push_back(counts);
  } else {
    known->Add(counts);
  }
}

std::vector<KernelCounts> TakeCounts() {
  Counts& kept = Kept();
  const std::lock_guard<std::mutex> lock(kept.mutex);
  return std::exchange(kept.all, {});
}

std::string NameOfPlace(uintptr_t place) {
  Dl_info info = {};
  if (dladdr(reinterpret_cast<void*>(place), &info) == 0) return absl::StrFormat("%#x", place);
  // The place is where a call returns to; the call is before it.
  const uintptr_t in_file = place - 1 - reinterpret_cast<uintptr_t>(info.dli_fbase);
  const std::string command = absl::StrFormat("addr2line -i -e '%s' %#x 2>/dev/null", info.dli_fname, in_file);
  std::string name;
  if (FILE* const lines = popen(command.c_str(), "r"); lines != nullptr) {
    // From the innermost function outwards: the first one of an operator, and not of a fake.
    char line[1024];
    while (std::fgets(line, sizeof(line), lines) != nullptr) {
      absl::string_view text = absl::StripTrailingAsciiWhitespace(line);
      text = text.substr(0, text.find(" ("));
      if (absl::StartsWith(text, "?") || absl::StrContains(text, "emulated_")) continue;
      const size_t slash = text.rfind('/');
      absl::StrAppend(&name, name.empty() ? "" : " < ", slash == text.npos ? text : text.substr(slash + 1));
    }
    pclose(lines);
  }
  return name.empty() ? absl::StrFormat("%s+%#x", info.dli_fname, in_file) : name;
}

std::string LossesOf(const KernelCounts& counts) {
  std::vector<std::pair<std::pair<uintptr_t, AccessKind>, AccessCounts>> places(counts.places.begin(),
                                                                                counts.places.end());
  std::erase_if(places, [](const auto& one) { return one.second.excess() == 0; });
  std::sort(places.begin(), places.end(),
            [](const auto& a, const auto& b) { return a.second.excess() > b.second.excess(); });
  std::string text;
  for (const auto& [place, one] : places) {
    absl::StrAppend(&text, counts.kernel, ": ", kNames[static_cast<int>(place.second)], " of ",
                    NameOfPlace(place.first), ": ", one.taken,
                    place.second < AccessKind::kGlobalRead ? " passes" : " sectors", " in ", one.requests,
                    " requests, ", one.least, " would do\n");
  }
  return text;
}

}  // namespace tandem::emulation
