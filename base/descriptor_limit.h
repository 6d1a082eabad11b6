// A connection is a descriptor, and so is a thread's doorbell: the 1024 that a shell gives are fewer than a busy
// program needs. Raised as far as the system allows without asking.
#ifndef TANDEM_BASE_DESCRIPTOR_LIMIT_H_
#define TANDEM_BASE_DESCRIPTOR_LIMIT_H_

#include <sys/resource.h>

namespace tandem {

inline void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace tandem

#endif  // TANDEM_BASE_DESCRIPTOR_LIMIT_H_
