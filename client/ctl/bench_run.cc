#include "client/ctl/bench_run.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

#include "client/channel.h"
#include "client/error.h"
#include "tandem/v1/inference.grpc.pb.h"

namespace tandem::client::ctl {
namespace {

using Clock = std::chrono::steady_clock;

// Counts, and wakes the sender. Everything under one lock, touched a few times a request.
class Board {
 public:
  explicit Board(Clock::time_point start) : start_(start) {}

  int64_t Now() const { return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start_).count(); }
  void Sent() {
    std::lock_guard lock(mu_);
    ++progress_.sent;
    ++progress_.running;
  }
  void Ended(bool well) {
    // Notified under the lock: the board may be gone as soon as its owner sees the last one end.
    std::lock_guard lock(mu_);
    --progress_.running;
    ++(well ? progress_.completed : progress_.missed);
    changed_.notify_all();
  }
  BenchProgress Look() {
    std::lock_guard lock(mu_);
    return progress_;
  }
  // Until fewer than `below` run, or `until`.
  bool WaitFor(size_t below, Clock::time_point until) {
    std::unique_lock lock(mu_);
    return changed_.wait_until(lock, until, [&] { return progress_.running < below; });
  }

 private:
  const Clock::time_point start_;
  std::mutex mu_;
  std::condition_variable changed_;
  BenchProgress progress_;
};

// One request. Its outcome is written by gRPC's callbacks, one at a time, and read after Ended().
class BenchCall final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  BenchCall(Board* board, int64_t due_us, v1::GenerateRequest request) : board_(*board), request_(std::move(request)) {
    outcome_.due_us = due_us;
  }

  void Start(v1::InferenceService::Stub& stub, absl::Duration timeout) {
    outcome_.sent_us = board_.Now();
    SetDeadline(context_, absl::Now() + timeout);
    board_.Sent();
    stub.async()->Generate(&context_, &request_, this);
    StartRead(&message_);
    StartCall();
  }
  void Cancel() { context_.TryCancel(); }
  const BenchOutcome& outcome() const { return outcome_; }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (message_.has_accepted()) {
      taken_up_ = true;
    } else if (message_.has_chunk() && message_.chunk().token_ids_size() > 0) {
      const int64_t now = board_.Now();
      if (outcome_.tokens == 0) {
        outcome_.first_us = now;
      } else {
        outcome_.gaps_us.push_back(now - outcome_.last_us);
      }
      outcome_.last_us = now;
      outcome_.tokens += static_cast<uint32_t>(message_.chunk().token_ids_size());
    } else if (message_.has_finished()) {
      outcome_.prompt_tokens = message_.finished().usage().prompt_tokens();
      outcome_.cached_tokens = message_.finished().usage().cached_tokens();
      finished_ = true;
    }
    StartRead(&message_);
  }

  void OnDone(const grpc::Status& grpc_status) override {
    const absl::Status status = FromGrpc(grpc_status);
    outcome_.last_us = board_.Now();
    const bool well = status.ok() && finished_;
    if (well) {
      outcome_.end = BenchOutcome::End::kCompleted;
    } else {
      outcome_.end = taken_up_ ? BenchOutcome::End::kFailed : BenchOutcome::End::kRejected;
      outcome_.reason = ErrorReason(status);
      if (outcome_.reason.empty()) outcome_.reason = absl::StatusCodeToString(status.code());
    }
    board_.Ended(well);
  }

 private:
  Board& board_;
  grpc::ClientContext context_;
  const v1::GenerateRequest request_;
  v1::GenerateResponse message_;
  BenchOutcome outcome_;
  bool taken_up_ = false;
  bool finished_ = false;
};

v1::GenerateRequest ToRequest(const TraceRequest& planned, const BenchSettings& settings, size_t index) {
  v1::GenerateRequest request;
  request.set_model(settings.model);
  const auto ids = MakePrompt(planned, settings.vocabulary, settings.seed, index);
  request.mutable_token_ids()->mutable_ids()->Add(ids.begin(), ids.end());
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(planned.output_tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  request.set_tenant(planned.tenant);
  return request;
}

}  // namespace

absl::StatusOr<std::vector<BenchOutcome>> RunBench(const std::vector<TraceRequest>& workload,
                                                   const BenchSettings& settings,
                                                   const std::function<void(const BenchProgress&)>& progress,
                                                   const std::atomic<bool>& stop) {
  const auto channel = OpenChannel(settings.address, settings.dialer, absl::Seconds(5));
  if (!channel.ok()) return channel.status();
  const auto stub = v1::InferenceService::NewStub(*channel);
  const Clock::time_point start = Clock::now();
  Board board(start);
  std::deque<BenchCall> calls;  // stay where they are
  Clock::time_point next_look = start;
  const auto look = [&] {
    if (Clock::now() < next_look) return;
    next_look = Clock::now() + std::chrono::seconds(1);
    progress(board.Look());
  };
  // In short sleeps, so that a stop is heard. A lone request's prompt is made before it is due.
  const auto sleep_until = [&](Clock::time_point until) {
    while (!stop && Clock::now() < until) {
      look();
      board.WaitFor(0, std::min(until, Clock::now() + std::chrono::milliseconds(100)));
    }
  };
  for (size_t i = 0; i < workload.size() && !stop; ++i) {
    v1::GenerateRequest request = ToRequest(workload[i], settings, i);
    int64_t due_us = workload[i].due_us;
    if (settings.concurrency == 0) {
      sleep_until(start + std::chrono::microseconds(due_us));
    } else {
      while (!stop && !board.WaitFor(settings.concurrency, Clock::now() + std::chrono::milliseconds(100))) look();
      due_us = board.Now();
    }
    if (stop) break;
    calls.emplace_back(&board, due_us, std::move(request)).Start(*stub, settings.timeout);
    look();
  }
  bool cancelled = false;
  while (!board.WaitFor(1, Clock::now() + std::chrono::milliseconds(100))) {
    look();
    if (stop && !std::exchange(cancelled, true)) {
      for (BenchCall& call : calls) call.Cancel();
    }
  }
  progress(board.Look());
  std::vector<BenchOutcome> outcomes;
  for (const BenchCall& call : calls) outcomes.push_back(call.outcome());
  return outcomes;
}

}  // namespace tandem::client::ctl
