// A worker without a model: it speaks the whole worker protocol over gRPC, forms every group it is told to at once, and
// answers requests with a chain of hashes, each token computed from the prompt and all tokens before it. A token that
// is lost, doubled or crossed makes everything after it wrong.
//
// For tests and benchmarks of the scheduler. Its own threads: one reads commands, one runs steps.
#ifndef TANDEM_TESTS_RPC_FAKE_WORKER_H_
#define TANDEM_TESTS_RPC_FAKE_WORKER_H_

#include <grpcpp/channel.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "tandem/v1/worker.grpc.pb.h"

namespace tandem::testing {

// A running hash over ids; `low` to `high` - 1 are the tokens that come out.
class TokenChain {
 public:
  TokenChain(uint32_t low, uint32_t high) : low_(low), high_(high) {}
  void Take(uint32_t id);
  // The token after all that were taken, which is taken too.
  uint32_t Next();

 private:
  uint32_t low_, high_;
  uint64_t hash_ = 0x243f6a8885a308d3;
};

class FakeWorker {
 public:
  struct Options {
    std::string address;  // of the scheduler's door for workers
    std::string node = "box";
    uint32_t index = 0;
    uint64_t memory_bytes = uint64_t{8} << 30;
    uint32_t low = 300, high = 600;       // of the chain
    uint32_t tokens_per_step = 1;         // of each request
    std::chrono::microseconds step{200};  // 0: as fast as it can
    uint32_t kv_blocks = 4096;
    uint32_t max_sequences = 64;
  };
  explicit FakeWorker(Options options);
  ~FakeWorker();

  // Stops taking steps, or goes on.
  void Freeze(bool frozen);
  // Sends the last step's tokens of every request again, as after a broken line.
  void RepeatEverything();
  // Leaves the token with this index out, of the first request that gets there.
  void SkipAt(size_t index);
  // Ends the streams as a killed process would.
  void Die();

  size_t running();
  size_t assigned();   // ever
  grpc::Status end();  // how the scheduler ended the stream; after Die or a refusal

 private:
  struct Running {
    v1::AssignRequest request;
    TokenChain chain;
    std::vector<uint32_t> output;
    bool started = false;
  };
  using Stream = grpc::ClientReaderWriter<v1::AttachRequest, v1::AttachResponse>;

  void ReadCommands();
  void RunSteps();
  void Obey(const v1::AttachResponse& command);
  void Say(const v1::AttachRequest& report);
  // Fills `message` with what this step does to each request.
  void Step(v1::TokensRequest* message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  grpc::ClientContext attach_context_, tokens_context_;
  std::unique_ptr<Stream> attach_;

  absl::Mutex write_mu_;  // one writer at a time on attach_
  absl::Mutex mu_;
  absl::CondVar changed_;
  std::map<std::string, Running> running_ ABSL_GUARDED_BY(mu_);  // by request id
  std::deque<v1::RequestUpdate> aborted_ ABSL_GUARDED_BY(mu_);
  v1::GroupKey group_ ABSL_GUARDED_BY(mu_);
  bool frozen_ ABSL_GUARDED_BY(mu_) = false;
  bool repeat_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<size_t> skip_at_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  size_t assigned_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t step_ ABSL_GUARDED_BY(mu_) = 0;
  grpc::Status end_ ABSL_GUARDED_BY(mu_);
  std::thread commands_, steps_, heartbeats_;
};

}  // namespace tandem::testing

#endif  // TANDEM_TESTS_RPC_FAKE_WORKER_H_
