// Who asks, by the key that came with a request, and what that one may ask for.
#ifndef TANDEM_CLIENT_GATEWAY_CALLER_H_
#define TANDEM_CLIENT_GATEWAY_CALLER_H_

#include <cstdint>
#include <string>

#include "base/security/priority_bound.h"

namespace tandem::gateway {

struct Caller {
  std::string tenant = "";  // empty: the one without a name
  // Of its requests. In the scheduler's sense: the higher is served first.
  int32_t highest_priority = security::kHighestPriority;
};

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_CALLER_H_
