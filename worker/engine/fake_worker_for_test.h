// A worker process as a few threads of a test: the engines of its device over a fake executor, and all they reported.
#ifndef TANDEM_WORKER_ENGINE_FAKE_WORKER_FOR_TEST_H_
#define TANDEM_WORKER_ENGINE_FAKE_WORKER_FOR_TEST_H_

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "worker/comm/group_bootstrap.h"
#include "worker/engine/device_engines.h"
#include "worker/engine/fake_executor_for_test.h"

namespace tandem::worker {

inline constexpr std::chrono::seconds kPatience{20};

inline AttemptId Id(uint32_t name, uint32_t attempt = 1) {
  AttemptId id{.attempt = {.leader = 1, .counter = attempt}};
  for (int i = 0; i < 4; ++i) id.request[i] = static_cast<uint8_t>(name >> (8 * i));
  return id;
}

inline Request Prompt(uint32_t name, int tokens, uint32_t max_tokens) {
  Request request{.id = Id(name), .max_tokens = max_tokens, .ignore_eos = true};
  for (int i = 0; i < tokens; ++i) request.prompt.push_back(static_cast<TokenId>((name * 31 + i * 7) % 90));
  return request;
}

// Lets a number of steps pass and holds the next one.
class Brake {
 public:
  explicit Brake(int steps) : left_(steps) {}
  absl::Status Pass() {
    std::unique_lock lock(mu_);
    released_.wait(lock, [this] { return left_ != 0; });
    if (left_ > 0) --left_;
    return absl::OkStatus();
  }
  void Release() {
    std::lock_guard lock(mu_);
    left_ = -1;
    released_.notify_all();
  }

 private:
  std::mutex mu_;
  std::condition_variable released_;
  int left_;  // -1: all may pass.
};

// One worker process as a thread: its engine, and all that the engine reported.
class FakeWorker {
 public:
  FakeWorker()
      : rendezvous_(Rendezvous::Start().value()),
        engine_({.services = {.load_model = [this](const LoadSpec&, Communicator* c) { return Load(c); },
                              .free_bytes = [this] { return free_bytes.load(); },
                              .private_bytes = [] { return int64_t{0}; }},
                 .join =
                     [this](const GroupIdentity& identity, const std::atomic<bool>* cancelled) {
                       return JoinGroup(*rendezvous_, identity, {.cancelled = cancelled});
                     },
                 .report = [this](Report report) { Take(std::move(report)); }}) {}

  DeviceEngines& engine() { return engine_; }
  const std::string& endpoint() const { return rendezvous_->endpoint(); }

  // The next report of this kind, also one that came earlier.
  template <typename T>
  std::optional<T> Await(std::chrono::milliseconds patience = kPatience) {
    std::unique_lock lock(mu_);
    std::optional<T> found;
    came_.wait_for(lock, patience, [&] {
      for (auto it = reports_.begin(); it != reports_.end(); ++it) {
        if (!std::holds_alternative<T>(*it)) continue;
        found = std::get<T>(*it);
        reports_.erase(it);
        return true;
      }
      return false;
    });
    return found;
  }

  struct Seen {
    std::vector<TokenId> output;
    int started = 0;
    int preempted = 0;
    std::optional<Ended> ended;
  };
  std::optional<Ended> AwaitEnd(const AttemptId& id) {
    std::unique_lock lock(mu_);
    came_.wait_for(lock, kPatience, [&] { return seen_[id].ended.has_value(); });
    return seen_[id].ended;
  }
  bool AwaitTokens(const AttemptId& id, size_t count) {
    std::unique_lock lock(mu_);
    return came_.wait_for(lock, kPatience, [&] { return seen_[id].output.size() >= count; });
  }
  Seen seen(const AttemptId& id) {
    std::lock_guard lock(mu_);
    return seen_[id];
  }
  // That steps were told for.
  std::set<uint64_t> lines() {
    std::lock_guard lock(mu_);
    return lines_;
  }
  std::string mistakes() {
    std::lock_guard lock(mu_);
    return mistakes_;
  }
  void Forget(const AttemptId& id) {
    std::lock_guard lock(mu_);
    seen_.erase(id);
  }

  std::function<absl::StatusOr<std::unique_ptr<Executor>>(Communicator*)> loader;  // Instead of a sound executor.
  std::function<absl::Status()> before_step;
  std::atomic<int64_t> free_bytes{int64_t{1} << 40};

 private:
  absl::StatusOr<std::unique_ptr<Executor>> Load(Communicator* communicator) {
    if (loader) return loader(communicator);
    return std::make_unique<FakeExecutor>(communicator, before_step);
  }

  void Take(Report report) {
    std::lock_guard lock(mu_);
    if (auto* step = std::get_if<StepDone>(&report)) {
      lines_.insert(step->line);
      for (const RequestUpdate& update : step->updates) Note(update);
    } else {
      reports_.push_back(std::move(report));
    }
    came_.notify_all();
  }

  void Note(const RequestUpdate& update) {
    Seen& seen = seen_[update.id];
    if (seen.ended) mistakes_ += absl::StrFormat("%s has an update after its end\n", update.id.ToString());
    if (std::holds_alternative<Started>(update.what)) ++seen.started;
    if (std::holds_alternative<Preempted>(update.what)) ++seen.preempted;
    if (auto* produced = std::get_if<Produced>(&update.what)) {
      if (produced->first_index != seen.output.size()) {
        mistakes_ += absl::StrFormat("%s: index %d after %d tokens\n", update.id.ToString(), produced->first_index,
                                     seen.output.size());
      }
      seen.output.insert(seen.output.end(), produced->tokens.begin(), produced->tokens.end());
    }
    if (auto* ended = std::get_if<Ended>(&update.what)) {
      seen.ended = *ended;
      if (ended->stop_token) seen.output.push_back(*ended->stop_token);
    }
  }

  std::mutex mu_;
  std::condition_variable came_;
  std::deque<Report> reports_;
  std::map<AttemptId, Seen> seen_;
  std::set<uint64_t> lines_;
  std::string mistakes_;
  std::unique_ptr<Rendezvous> rendezvous_;
  DeviceEngines engine_;  // Last: its thread ends before all else.
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_FAKE_WORKER_FOR_TEST_H_
