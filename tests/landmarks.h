// Prompts that begin alike, for tests of the core: the landmarks of a conversation, made up by its number, as far as a
// prompt of it goes.
#ifndef TANDEM_TESTS_LANDMARKS_H_
#define TANDEM_TESTS_LANDMARKS_H_

#include <cstdint>
#include <vector>

#include "base/prefix_landmarks.h"
#include "scheduler/core/types.h"

namespace tandem::core {

inline std::vector<uint64_t> LandmarksOf(int talk, Tokens prompt) {
  std::vector<uint64_t> landmarks;
  for (int32_t blocks : kLandmarkBlocks) {
    if (Tokens{int64_t{blocks} * static_cast<int64_t>(kPrefixBlockTokens)} > prompt) break;
    landmarks.push_back(static_cast<uint64_t>(talk * 100'000 + blocks));
  }
  return landmarks;
}

}  // namespace tandem::core

#endif  // TANDEM_TESTS_LANDMARKS_H_
