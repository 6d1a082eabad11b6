// Asks for memory that will be read soon. A large fleet's state is in no cache, and a step that meets its parts one
// after the other waits for each of them; asked for together, they come together. A hint: it changes nothing that is
// decided.
#ifndef TANDEM_SCHEDULER_CORE_PREFETCH_H_
#define TANDEM_SCHEDULER_CORE_PREFETCH_H_

#include <cstddef>

namespace tandem::core {

inline constexpr size_t kCacheLine = 64;

// The first `bytes` at `what`; null is fine.
inline void Prefetch(const void* what, size_t bytes) {
  const char* const at = static_cast<const char*>(what);
  for (size_t line = 0; line < bytes; line += kCacheLine) __builtin_prefetch(at + line);
}

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_PREFETCH_H_
