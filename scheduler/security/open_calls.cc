#include "scheduler/security/open_calls.h"

#include <utility>
#include <vector>

namespace tandem::scheduler {

void OpenCalls::Enter(AdmittedCall* call, Ticket ticket) {
  absl::MutexLock lock(&mu_);
  calls_.insert_or_assign(call, std::move(ticket));
}

void OpenCalls::Leave(AdmittedCall* call) {
  absl::MutexLock lock(&mu_);
  calls_.erase(call);
}

size_t OpenCalls::Reconsider(const Judge& judge) {
  std::vector<std::pair<std::shared_ptr<AdmittedCall>, Error>> out;
  {
    absl::MutexLock lock(&mu_);
    for (const auto& [call, ticket] : calls_) {
      if (auto error = judge(ticket)) out.emplace_back(call->KeepAdmitted(), *std::move(error));
    }
  }
  for (const auto& [call, error] : out) call->PutOut(error);
  return out.size();
}

}  // namespace tandem::scheduler
