#include "simulate/simulation.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <memory>
#include <queue>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "simulate/baseline_router.h"
#include "simulate/core_router.h"
#include "simulate/fleet.h"
#include "simulate/sim_group.h"

namespace tandem::simulate {
namespace {

constexpr int64_t kHopNs =
    200'000;  // between router and engine: a message on a machine-room network, both programs' part
constexpr int64_t kNever = INT64_MAX;
constexpr absl::string_view kPolicies[] = {"default",      "round_robin",        "least_requests",
                                           "power_of_two", "sglang_cache_aware", "dynamo_kv"};
constexpr uint32_t kVocabulary = 1 << 15;
constexpr char kSalt[] = "of the simulation";

std::unique_ptr<Policy> MakePolicy(const std::string& name, uint32_t groups, uint64_t seed) {
  if (name == "round_robin") return MakeRoundRobin(groups);
  if (name == "least_requests") return MakeLeastRequests(groups);
  if (name == "power_of_two") return MakePowerOfTwo(groups, seed);
  if (name == "sglang_cache_aware") return MakeSglangCacheAware(groups);
  if (name == "dynamo_kv") return MakeDynamoKv(groups);
  return nullptr;
}

class Simulation {
 public:
  Simulation(const std::vector<TraceRequest>& trace, const ServedModel& model, const SimulationOptions& options,
             Fleet* fleet)
      : trace_(trace), options_(options), max_model_len_(fleet->model().max_model_len) {
    for (uint32_t id = 0; id < kVocabulary; ++id) vocabulary_.push_back(id);
    worker::BatcherLimits limits{.max_sequences = static_cast<uint32_t>(model.spec.max_sequences),
                                 .max_batch_tokens = static_cast<uint32_t>(model.spec.max_batch_tokens),
                                 .max_model_len = fleet->model().max_model_len,
                                 .max_waiting = UINT32_MAX,
                                 .step_budget_us = 200'000};
    if (options.policy == "default") {
      router_ = std::make_unique<CoreRouter>(fleet, &groups_);
    } else {
      router_ = std::make_unique<BaselineRouter>(
          MakePolicy(options.policy, static_cast<uint32_t>(fleet->groups().size()), options.seed));
    }
    limits.report_all_blocks = router_->prefixes() == Router::Prefixes::kBlocks;
    for (const FleetGroup& group : fleet->groups()) {
      groups_.push_back(std::make_unique<SimGroup>(group, model.work, limits,
                                                   [this](const worker::AttemptId& id) { return PayloadOf(id); }));
    }
    result_.outcomes.resize(trace.size());
    for (size_t i = 0; i < trace.size(); ++i) {
      result_.outcomes[i].due_us = std::llround(static_cast<double>(trace[i].due_us) / options.load_factor);
      result_.outcomes[i].prompt_tokens = trace[i].input_tokens;
    }
    open_ = trace.size();
  }

  SimResult Run() {
    while (open_ > 0) Next();
    for (const auto& group : groups_) result_.steps += group->status().steps;
    result_.simulated_seconds = static_cast<double>(now_) / 1e9;
    return std::move(result_);
  }

 private:
  // On its way to a group, or from one.
  struct Delivery {
    int64_t at;
    uint32_t group;
    worker::AttemptId id;
  };
  struct Word {
    int64_t at;
    uint32_t group;
    std::vector<worker::RequestUpdate> updates;
    worker::BlockAllocator::Changes changes;
  };
  struct StepEnd {
    int64_t at;
    uint32_t group;
    bool operator<(const StepEnd& other) const {
      return std::pair(at, group) > std::pair(other.at, other.group);  // the queue has its greatest in front
    }
  };

  // What is due first happens; of what is due together, words of engines before requests, so that a router knows what
  // it can.
  void Next() {
    const int64_t step = steps_.empty() ? kNever : steps_.top().at;
    const int64_t word = words_.empty() ? kNever : words_.front().at;
    const int64_t delivery = deliveries_.empty() ? kNever : deliveries_.front().at;
    const int64_t arrival = next_ < trace_.size() ? result_.outcomes[next_].due_us * 1000 : kNever;
    const int64_t wake = router_->next_wake();
    const int64_t first = std::min({step, word, delivery, arrival, wake});
    CHECK_NE(first, kNever) << open_ << " requests are under way and nothing will happen";
    now_ = std::max(now_, first);
    if (first == step) return EndStep();
    if (first == word) return HearWord();
    if (first == delivery) return Deliver();
    if (first == wake) {
      router_->Wake(now_, decisions_);
      return Obey();
    }
    Arrive();
  }

  void EndStep() {
    const uint32_t group = steps_.top().group;
    steps_.pop();
    groups_[group]->Finish();
    Turn(group);
  }

  // The group tells what happened, and goes on.
  void Turn(uint32_t group) {
    SimGroup& g = *groups_[group];
    Word word{.at = now_ + kHopNs, .group = group, .updates = g.TakeUpdates(), .changes = g.TakeCacheChanges()};
    const std::optional<int64_t> ends = g.Begin(now_);
    if (ends) {
      steps_.push({*ends, group});
    } else {
      for (worker::RequestUpdate& update : g.TakeUpdates()) word.updates.push_back(std::move(update));
    }
    if (!word.updates.empty() || !word.changes.empty()) words_.push_back(std::move(word));
  }

  void HearWord() {
    const Word word = std::move(words_.front());
    words_.pop_front();
    for (const worker::RequestUpdate& update : word.updates) {
      Note(word.group, update);
      const bool decides = std::holds_alternative<worker::Ended>(update.what);
      const auto begin = std::chrono::steady_clock::now();
      router_->Hear(now_, word.group, update, decisions_);
      if (decides && !decisions_.sent.empty()) CountDecision(begin);
      Obey();
    }
    router_->CacheChanged(now_, word.group, word.changes, decisions_);
    Obey();
  }

  void Note(uint32_t group, const worker::RequestUpdate& update) {
    SimOutcome& outcome = result_.outcomes[RequestOf(update.id)];
    if (const auto* started = std::get_if<worker::Started>(&update.what)) {
      outcome.cached_tokens = started->cached_tokens;
    } else if (const auto* produced = std::get_if<worker::Produced>(&update.what)) {
      if (produced->first_index == 0) outcome.first_us = now_ / 1000;
      outcome.output_tokens += static_cast<uint32_t>(produced->tokens.size());
    } else if (std::holds_alternative<worker::Preempted>(update.what)) {
      ++outcome.preemptions;
    } else if (const auto* ended = std::get_if<worker::Ended>(&update.what)) {
      if (ended->how != worker::Ended::How::kLengthReached) return;  // the router says what becomes of it
      outcome.completed = true;
      outcome.last_us = now_ / 1000;
      outcome.group = static_cast<int32_t>(group);
      --open_;
    }
  }

  void Arrive() {
    const uint32_t request = static_cast<uint32_t>(next_++);
    const TraceRequest& from = trace_[request];
    if (int64_t{from.input_tokens} + from.output_tokens > max_model_len_) {
      return Refuse(request, "CONTEXT_LENGTH_EXCEEDED");
    }
    std::vector<PrefixHash> blocks;
    std::vector<uint64_t> landmarks;
    if (router_->prefixes() == Router::Prefixes::kBlocks) blocks = PrefixBlocks(kSalt, PromptOf(request));
    if (router_->prefixes() == Router::Prefixes::kLandmarks) landmarks = PrefixLandmarks(kSalt, PromptOf(request));
    const Arrival arrival{.request = request,
                          .prompt_tokens = from.input_tokens,
                          .tenant = from.tenant,
                          .blocks = blocks,
                          .landmarks = landmarks};
    const auto begin = std::chrono::steady_clock::now();
    router_->Arrive(now_, arrival, decisions_);
    CountDecision(begin);
    Obey();
  }

  void Obey() {
    for (const Decisions::Sent& sent : decisions_.sent) {
      deliveries_.push_back({now_ + kHopNs, sent.group, IdOf(sent.request, sent.attempt)});
    }
    for (const Decisions::Refused& refused : decisions_.refused) Refuse(refused.request, refused.reason);
    decisions_.sent.clear();
    decisions_.refused.clear();
  }

  void Deliver() {
    const Delivery delivery = deliveries_.front();
    deliveries_.pop_front();
    groups_[delivery.group]->Deliver(delivery.id, trace_[RequestOf(delivery.id)].input_tokens);
    if (!groups_[delivery.group]->stepping()) Turn(delivery.group);
  }

  void Refuse(uint32_t request, std::string reason) {
    SimOutcome& outcome = result_.outcomes[request];
    CHECK(!outcome.completed && outcome.reason.empty()) << "request " << request << " ends twice";
    outcome.reason = std::move(reason);
    outcome.last_us = now_ / 1000;
    --open_;
  }

  void CountDecision(std::chrono::steady_clock::time_point begin) {
    const auto took = std::chrono::steady_clock::now() - begin;
    result_.decisions_ns.push_back(std::chrono::nanoseconds(took).count());
  }

  std::vector<worker::TokenId> PromptOf(uint32_t request) const {
    const std::vector<uint32_t> ids = MakePrompt(trace_[request], vocabulary_, options_.seed, request);
    return {ids.begin(), ids.end()};
  }

  std::shared_ptr<const worker::Request> PayloadOf(const worker::AttemptId& id) const {
    auto request = std::make_shared<worker::Request>();
    request->id = id;
    request->prompt = PromptOf(RequestOf(id));
    request->max_tokens = trace_[RequestOf(id)].output_tokens;
    request->cache_salt = kSalt;
    return request;
  }

  const std::vector<TraceRequest>& trace_;
  const SimulationOptions& options_;
  const int64_t max_model_len_;
  std::vector<uint32_t> vocabulary_;
  std::vector<std::unique_ptr<SimGroup>> groups_;
  std::unique_ptr<Router> router_;
  Decisions decisions_;
  int64_t now_ = 0;
  size_t next_ = 0;  // to arrive
  size_t open_ = 0;  // not ended yet
  std::deque<Delivery> deliveries_;
  std::deque<Word> words_;
  std::priority_queue<StepEnd> steps_;
  SimResult result_;
};

}  // namespace

absl::Span<const absl::string_view> Policies() { return kPolicies; }

absl::StatusOr<SimResult> Simulate(const std::vector<TraceRequest>& trace, const placement::Topology& topology,
                                   const ServedModel& model, const SimulationOptions& options) {
  if (std::find(std::begin(kPolicies), std::end(kPolicies), options.policy) == std::end(kPolicies)) {
    return absl::InvalidArgumentError(
        absl::StrCat("no policy is called \"", options.policy, "\"; there are ", absl::StrJoin(kPolicies, ", ")));
  }
  auto fleet = Fleet::Form(topology, model, options.memory_utilization, options.replicas);
  if (!fleet.ok()) return fleet.status();
  SimResult result = Simulation(trace, model, options, fleet->get()).Run();
  const FleetGroup& group = (*fleet)->groups().front();
  result.groups = static_cast<int>((*fleet)->groups().size());
  result.tensor_parallel = static_cast<int>(group.members.size());
  result.kv_tokens = int64_t{group.kv_blocks} * worker::kBlockTokens;
  return result;
}

}  // namespace tandem::simulate
