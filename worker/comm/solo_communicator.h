// The communicator of a group of one: every collective is the identity.
#ifndef TANDEM_WORKER_COMM_SOLO_COMMUNICATOR_H_
#define TANDEM_WORKER_COMM_SOLO_COMMUNICATOR_H_

#include <glog/logging.h>

#include <algorithm>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "worker/comm/communicator.h"

namespace tandem::worker {

class SoloCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }

  absl::Status AllReduceSum(absl::Span<float>) override { return Health(); }

  absl::Status Gather(absl::Span<const float> send, absl::Span<float> receive) override { return Copy(send, receive); }

  absl::Status AllGather(absl::Span<const uint8_t> send, absl::Span<uint8_t> receive) override {
    return Copy(send, receive);
  }

  absl::Status Barrier() override { return Health(); }

  absl::Status Health() const override {
    std::lock_guard lock(mu_);
    return status_;
  }

  void Abort(absl::string_view reason) override {
    std::lock_guard lock(mu_);
    if (status_.ok()) status_ = absl::AbortedError(absl::StrCat("group aborted: rank 0: ", reason));
  }

 private:
  template <typename T>
  absl::Status Copy(absl::Span<const T> send, absl::Span<T> receive) {
    CHECK_EQ(send.size(), receive.size());
    std::copy(send.begin(), send.end(), receive.begin());
    return Health();
  }

  mutable std::mutex mu_;
  absl::Status status_;  // Guarded by mu_.
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_SOLO_COMMUNICATOR_H_
