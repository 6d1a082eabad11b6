#include "tests/emulation/findings.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <utility>

namespace tandem::emulation {
namespace {

constexpr size_t kKept = 100;
constexpr int kExitCode = 86;

struct Findings {
  std::mutex mutex;
  std::vector<std::string> kept;
  size_t left_out = 0;
};

void EndBadlyWhereFindingsAreLeft();

Findings& All() {
  static Findings* const all = [] {
    std::atexit(EndBadlyWhereFindingsAreLeft);
    return new Findings;  // Never freed: streams may still report while the process ends.
  }();
  return *all;
}

void EndBadlyWhereFindingsAreLeft() {
  const size_t count = All().kept.size();
  if (count == 0) return;
  std::fprintf(stderr, "emulation: ended with %zu findings, see above\n", count);
  std::fflush(nullptr);
  _exit(kExitCode);
}

}  // namespace

void Report(const std::string& finding) {
  Findings& all = All();
  const std::lock_guard<std::mutex> lock(all.mutex);
  if (all.kept.size() == kKept) {
    ++all.left_out;
    return;
  }
  all.kept.push_back(finding);
  std::fprintf(stderr, "emulation: %s\n", finding.c_str());
}

std::vector<std::string> TakeFindings() {
  Findings& all = All();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.left_out = 0;
  return std::exchange(all.kept, {});
}

}  // namespace tandem::emulation
