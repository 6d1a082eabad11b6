#include "tests/sim/shrink.h"

#include <algorithm>

#include "absl/strings/ascii.h"

namespace tandem::sim {
namespace {

std::string Shape(const std::string& failure) {
  std::string shape;
  for (char c : failure) {
    if (!absl::ascii_isdigit(c)) shape += c;
  }
  return shape.substr(0, 60);  // What follows is detail that may differ.
}

}  // namespace

Script ShrinkScript(const Script& script, const std::string& failure, const RunOptions& options) {
  const std::string shape = Shape(failure);
  const auto fails = [&](const Script& candidate) { return Shape(RunScript(candidate, options).failure) == shape; };
  Script least = script;
  size_t piece = std::max<size_t>(1, least.happenings.size() / 2);
  while (true) {
    bool smaller = false;
    for (size_t begin = 0; begin < least.happenings.size();) {
      Script candidate{.seed = least.seed};
      const size_t end = std::min(begin + piece, least.happenings.size());
      candidate.happenings.assign(least.happenings.begin(), least.happenings.begin() + begin);
      candidate.happenings.insert(candidate.happenings.end(), least.happenings.begin() + end, least.happenings.end());
      if (fails(candidate)) {
        least = std::move(candidate);
        smaller = true;
      } else {
        begin = end;
      }
    }
    if (piece == 1 && !smaller) return least;
    piece = std::max<size_t>(1, piece / 2);
  }
}

}  // namespace tandem::sim
