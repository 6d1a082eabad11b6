#include "placement/topology/chip.h"

#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tandem::placement {
namespace {

// One link and direction, by generation.
constexpr int64_t kVolta = 20'000, kAmpere = 20'000, kGa10x = 12'000, kHopper = 20'600, kBlackwell = 40'100;
// Sixteen lanes, one direction.
constexpr int64_t kGen3 = 12'000, kGen4 = 24'000, kGen5 = 48'000;
// Between sockets: Skylake's and Broadwell's time, Sapphire Rapids' and after.
constexpr int64_t kOldSocket = 10'000, kNewSocket = 22'000;

constexpr int64_t kGiB = int64_t{1} << 30;

// The first row of a generation stands for it (FindChipBySm). Arithmetic of chips older than bf16 is that of fp16
// (V100, T4) or fp32 (K80, per die).
constexpr Chip kChips[] = {
    {"V100", 70, kVolta, 6, kGen3, kOldSocket, 900'000, 125'000, 0, true},
    {"A100", 80, kAmpere, 12, kGen4, kNewSocket, 2'039'000, 312'000, 0, true},
    {"A30", 80, kAmpere, 4, kGen4, kNewSocket, 933'000, 165'000, 24 * kGiB, true},
    {"A40", 86, kGa10x, 4, kGen4, kNewSocket, 696'000, 149'700, 48 * kGiB, true},
    {"A10", 86, 0, 0, kGen4, kNewSocket, 600'000, 125'000, 24 * kGiB, true},
    {"A6000", 86, kGa10x, 4, kGen4, kNewSocket, 768'000, 154'800, 48 * kGiB, true},
    {"K80", 37, 0, 0, kGen3, kOldSocket, 240'000, 4'370, 12 * kGiB, true},
    {"RTX3090", 86, kGa10x, 4, kGen4, kNewSocket, 936'000, 71'000, 24 * kGiB, false},
    {"L40S", 89, 0, 0, kGen4, kNewSocket, 864'000, 362'000, 48 * kGiB, true},
    {"L4", 89, 0, 0, kGen4, kNewSocket, 300'000, 121'000, 24 * kGiB, true},
    {"RTX4090", 89, 0, 0, kGen4, kNewSocket, 1'008'000, 165'200, 24 * kGiB, false},
    {"H100", 90, kHopper, 18, kGen5, kNewSocket, 3'350'000, 989'000, 80 * kGiB, true},
    {"H100-PCIe", 90, kHopper, 12, kGen5, kNewSocket, 2'000'000, 756'000, 80 * kGiB, true},
    {"H20", 90, kHopper, 18, kGen5, kNewSocket, 4'000'000, 148'000, 96 * kGiB, true},
    {"H200", 90, kHopper, 18, kGen5, kNewSocket, 4'800'000, 989'000, 141 * kGiB, true},
    {"B200", 100, kBlackwell, 18, kGen5, kNewSocket, 7'700'000, 2'250'000, 0, true},
    {"GB200", 100, kBlackwell, 18, kGen5, kNewSocket, 8'000'000, 2'500'000, 0, true},
    {"GB10", 121, 0, 0, kGen5, kNewSocket, 273'000, 125'000, 128 * kGiB, true},
    {"T4", 75, 0, 0, kGen3, kOldSocket, 300'000, 65'000, 16 * kGiB, true},
};

// Of middling size, so that a plan with it is wrong in scale rather than in order.
constexpr Chip kGeneric = {"generic", 0, 0, 0, kGen4, kNewSocket, 600'000, 125'000, 0, true};

// A few cores of a server: what one of them copies a second, and what reaches the other socket.
constexpr Chip kCpu = {"CPU", 0, 0, 0, 10'000, 6'000, 40'000, 500, 0, true};

// The runs of letters and digits, in capitals: "NVIDIA", "A100", "SXM4", "80GB".
std::vector<std::string> Words(absl::string_view name) {
  std::vector<std::string> words(1);
  for (const char c : name) {
    if (absl::ascii_isalnum(c)) {
      words.back() += absl::ascii_toupper(c);
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
  }
  return words;
}

// Longest name of the table, in words: "H100-PCIe", "RTX 3090".
constexpr size_t kMostWords = 2;

}  // namespace

const Chip* FindChip(absl::string_view name) {
  const std::vector<std::string> words = Words(name);
  const Chip* found = nullptr;
  size_t longest = 0;  // "H100 PCIe" is the PCIe card, not the module
  for (const Chip& chip : kChips) {
    const std::string key = absl::StrJoin(Words(chip.name), "");
    if (key.size() <= longest) continue;
    for (size_t first = 0; first < words.size(); ++first) {
      std::string run;
      for (size_t i = first; i < words.size() && i < first + kMostWords; ++i) {
        run += words[i];
        if (run == key) {
          found = &chip;
          longest = key.size();
        }
      }
    }
  }
  return found;
}

const Chip* FindChipBySm(int sm) {
  for (const Chip& chip : kChips) {
    if (chip.sm == sm) return &chip;
  }
  return nullptr;
}

const Chip& GenericChip() { return kGeneric; }

const Chip& CpuChip() { return kCpu; }

absl::string_view KnownChips() {
  static const std::string* const names = new std::string(
      absl::StrJoin(kChips, ", ", [](std::string* out, const Chip& chip) { absl::StrAppend(out, chip.name); }));
  return *names;
}

}  // namespace tandem::placement
