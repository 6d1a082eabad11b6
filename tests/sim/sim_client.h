// A simulated client: one request, and what it takes to get the whole answer to it.
//
// Everything is checked as it comes: the index of a token must be the next one, the token, its logprobs and its text
// what expected_answer.h says, and nothing may come after a stop string. A call that ends without the answer is taken
// up again, as the client library does: by Resume or by the idempotency key if it has one, and always with the tokens
// that it has (resume_token_ids).
#ifndef TANDEM_TESTS_SIM_SIM_CLIENT_H_
#define TANDEM_TESTS_SIM_SIM_CLIENT_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "scheduler/core/types.h"
#include "tests/sim/expected_answer.h"
#include "tests/sim/script.h"
#include "tests/sim/sim_call.h"
#include "tests/sim/sim_executor.h"

namespace tandem::sim {

class SimClient : public std::enable_shared_from_this<SimClient> {
 public:
  // Makes a call for `request`; `deadline_us` from now, 0: none.
  using Generate =
      std::function<void(std::shared_ptr<SimCall>, const v1::GenerateRequest& request, int64_t deadline_us)>;

  using Resume = std::function<void(std::shared_ptr<SimCall>, const v1::ResumeRequest& request)>;

  SimClient(World* world, int64_t delay_us, const core::ModelSpec& model, const Happening& request, Generate generate,
            Resume resume);

  void Start();
  // Its connection breaks: it comes back.
  void Break();
  void Cancel();
  void Stall(int64_t us);

  bool ended() const { return ended_; }
  int64_t name() const { return name_; }
  const std::string& model() const { return request_.model(); }
  size_t received() const { return tokens_.size(); }
  const std::string& last_error() const { return last_error_; }

 private:
  void Call();
  std::shared_ptr<SimCall> MakeCall();
  void SpyOnIt();
  void OnAccepted(const v1::Accepted& accepted);
  void OnChunk(const v1::Chunk& chunk);
  void CheckLogprobs(const v1::PositionLogprobs& got, size_t index);
  void OnMessage(const v1::GenerateResponse& message);
  void OnOver(const grpc::Status& status);
  void OnFinished(const v1::Finished& finished);
  void TryAgain();
  void End(const char* how);
  void Broken(const std::string& what);

  World* const world_;
  const int64_t delay_us_;
  const int32_t context_;
  const int64_t name_;
  const int64_t flags_;
  const Generate generate_;
  const Resume resume_;
  v1::GenerateRequest request_;
  int64_t deadline_ = 0;  // 0: none.
  int64_t wait_us_ = 100 * kMs;
  int tries_ = 0;
  int keys_ = 0;             // A request that failed under its key is asked anew under the next.
  ExpectedAnswer expected_;  // once the seed is known
  std::vector<uint32_t> tokens_;
  std::string text_;
  std::string id_;  // while Resume may know it
  bool resuming_ = false;
  std::shared_ptr<SimCall> call_;
  bool ended_ = false;
  std::string last_error_;
};

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_SIM_CLIENT_H_
