#include "worker/exec/cpu_isa.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tandem::worker {
namespace {

struct Candidate {
  const char* name;
  const CpuKernels* kernels;  // null: not built for this architecture
  bool (*supported)();
};

#if defined(__x86_64__)
bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool HasAvx512() { return HasAvx2() && __builtin_cpu_supports("avx512f"); }
bool HasAvx512Bf16() {
  return HasAvx512() && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bf16");
}

constexpr Candidate kCandidates[] = {
    {"avx512", &kAvx512Kernels, HasAvx512},
    {"avx2", &kAvx2Kernels, HasAvx2},
    {"avx512_bf16", &kAvx512Bf16Kernels, HasAvx512Bf16},
    {"generic", &kGenericKernels, [] { return true; }},
};
#else
bool Never() { return false; }

constexpr Candidate kCandidates[] = {
    {"avx512", nullptr, Never},
    {"avx2", nullptr, Never},
    {"avx512_bf16", nullptr, Never},
    {"generic", &kGenericKernels, [] { return true; }},
};
#endif

}  // namespace

std::vector<std::string> AvailableIsas() {
  std::vector<std::string> names;
  for (const Candidate& candidate : kCandidates) {
    if (candidate.supported()) names.emplace_back(candidate.name);
  }
  return names;
}

absl::StatusOr<const CpuKernels*> ChooseKernels(absl::string_view isa) {
  for (const Candidate& candidate : kCandidates) {
    if (isa != "auto" && isa != candidate.name) continue;
    if (candidate.supported()) return candidate.kernels;
    if (isa != "auto") {
      return absl::FailedPreconditionError(
          absl::StrCat("isa \"", isa, "\": this CPU does not have it; it has ", absl::StrJoin(AvailableIsas(), ", ")));
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("isa \"", isa, "\" is not known; choose auto, ", absl::StrJoin(AvailableIsas(), ", ")));
}

}  // namespace tandem::worker
