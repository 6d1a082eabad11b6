#include "scheduler/core/check.h"

#include <cstdio>
#include <cstdlib>

namespace tandem::core {

void CheckFailed(const char* file, int line, const char* condition, const std::string& values) {
  std::fprintf(stderr, "%s:%d: check failed: %s; %s\n", file, line, condition, values.c_str());
  std::abort();
}

}  // namespace tandem::core
