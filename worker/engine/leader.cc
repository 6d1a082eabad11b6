#include "worker/engine/leader.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace tandem::worker {
namespace {

BatcherLimits LimitsOf(const Shard& shard) {
  const bool encoder = shard.executor().facts().vector_size > 0;
  return {.max_sequences = shard.spec().max_sequences,
          .max_batch_tokens = shard.spec().max_batch_tokens,
          .max_model_len = shard.max_model_len(),
          .step_budget_us = int64_t{shard.spec().step_budget_ms} * 1000,
          .prefix_cache = shard.spec().prefix_cache && !encoder,
          .whole_prompts = encoder};
}

// A replay is told in parts of about this size: well below what a reader takes at once, and small enough for the steps
// of streams that run to come in between.
constexpr size_t kReplayMessageBytes = size_t{1} << 20;

// On the wire: an id takes up to five bytes, an id with its logprob a dozen.
size_t ApproximateBytes(const RequestUpdate& update) {
  size_t bytes = 64;
  if (const auto* held = std::get_if<Held>(&update.what)) {
    bytes += 5 * held->request->prompt.size() + 1024;
    for (const std::string& stop : held->request->stop) bytes += stop.size();
  } else if (const auto* produced = std::get_if<Produced>(&update.what)) {
    bytes += 5 * produced->tokens.size();
    for (const PositionLogprobs& position : produced->logprobs) bytes += 12 * (1 + position.top.size());
  } else if (const auto* ended = std::get_if<Ended>(&update.what)) {
    bytes += ended->vector.size();
  }
  return bytes;
}

}  // namespace

Leader::Leader(Shard* shard, std::function<void(Report)> report, std::function<SteadyTime()> clock)
    : shard_(shard),
      report_(std::move(report)),
      clock_(std::move(clock)),
      batcher_(LimitsOf(*shard), shard->kv_blocks(), shard->executor().facts().eos_ids),
      log_(std::make_shared<RequestLog>()) {}

std::optional<std::string> Leader::Unusable(const Request& request, bool picture) const {
  const ModelFacts& facts = shard_->executor().facts();
  const int32_t vocab = facts.vocab_size;
  for (const std::vector<TokenId>* ids : {&request.prompt, &request.output}) {
    auto bad = std::find_if(ids->begin(), ids->end(), [&](TokenId id) { return id < 0 || id >= vocab; });
    if (bad != ids->end()) return absl::StrCat("token id ", *bad, " is not in the vocabulary of ", vocab);
  }
  if (request.second_text_at > request.prompt.size()) {
    return absl::StrCat("the second text begins at ", request.second_text_at, " of ", request.prompt.size(), " tokens");
  }
  const size_t most = static_cast<size_t>(picture ? facts.image_tokens : facts.text_tokens);
  if (picture && request.prompt.size() != most) {
    return absl::StrCat("a picture came as ", request.prompt.size(), " tokens; the model has ", most, " for one");
  }
  if (!picture && most > 0 && request.prompt.size() > most) {
    return absl::StrCat("a text of ", request.prompt.size(), " tokens; the model takes ", most);
  }
  return std::nullopt;
}

void Leader::EndAtOnce(const AttemptId& id, Ended ended) {
  Flush();
  RequestUpdate update{id, std::move(ended)};
  log_->Note(update);
  report_(StepDone{.group = shard_->ref(), .step = shard_->steps(), .updates = {std::move(update)}});
}

void Leader::Assign(Request request) {
  if (std::optional<AttemptId> held = log_->LatestAttempt(request.id.request)) {
    if (held->attempt >= request.id.attempt) return;  // Said twice, or late.
    batcher_.Abort(*held, absl::StrCat("attempt ", request.id.attempt.ToString(), " took its place"));
  }
  const AttemptId id = request.id;
  // The log keeps requests; nobody asks it for pictures.
  const std::string file = std::exchange(request.image, {});
  std::optional<std::string> unusable = Unusable(request, !file.empty());
  auto shared = std::make_shared<const Request>(std::move(request));
  log_->Add(shared);
  if (unusable) return EndAtOnce(id, {.how = Ended::How::kRefused, .message = *std::move(unusable)});
  std::vector<uint8_t> image;
  if (!file.empty()) {
    absl::StatusOr<std::vector<uint8_t>> read = shard_->executor().ReadImage(file);
    if (!read.ok()) {
      return EndAtOnce(
          id,
          {.how = Ended::How::kLengthReached, .output_tokens = 1, .unreadable = std::string(read.status().message())});
    }
    image = *std::move(read);
  }
  batcher_.Add(std::move(shared), std::move(image));
  Flush();
}

void Leader::Abort(const AttemptId& id, absl::string_view reason) {
  if (!batcher_.Abort(id, reason) && !log_->has(id)) {
    report_(StepDone{.group = shard_->ref(),
                     .step = shard_->steps(),
                     .updates = {{id, Ended{.how = Ended::How::kAborted, .message = "it never came to this worker"}}}});
  }
  Flush();
}

void Leader::AbortAll(absl::string_view reason) {
  batcher_.AbortAll(reason);
  Flush();
}

void Leader::ReplayAll(uint64_t leader_epoch) {
  StepDone part{.group = shard_->ref(), .step = shard_->steps()};
  size_t bytes = 0;
  for (RequestUpdate& update : log_->ReplayAll(leader_epoch, shard_->facts().numerics_id)) {
    const size_t more = ApproximateBytes(update);
    if (!part.updates.empty() && bytes + more > kReplayMessageBytes) {
      report_(std::exchange(part, {.group = part.group, .step = part.step}));
      bytes = 0;
    }
    bytes += more;
    part.updates.push_back(std::move(update));
  }
  if (!part.updates.empty()) report_(std::move(part));
  report_(CacheChanged{.group = shard_->ref(), .changes = batcher_.TakeWholeCache(), .whole = true});
}

void Leader::Acknowledge(const AttemptId& id, SteadyTime now, SteadyTime::duration retention) {
  log_->Acknowledge(id, now, retention);
}

absl::Status Leader::Step(SteadyTime now) {
  batcher_.Expire(now);
  std::optional<StepPlan> plan = batcher_.Plan(cost_.cost());
  if (!plan) {
    Flush();
    return absl::OkStatus();
  }
  const int64_t tokens = static_cast<int64_t>(plan->tokens.size());
  const SteadyTime start = clock_();
  absl::StatusOr<absl::Span<const float>> logits = shard_->Lead(*std::move(plan));
  if (!logits.ok()) return logits.status();
  if (const int32_t vector = shard_->executor().facts().vector_size; vector > 0) {
    if (logits->size() != batcher_.sampled().size() * static_cast<size_t>(vector)) {
      return absl::InternalError(absl::StrCat("the encoder gave ", logits->size(), " numbers for ",
                                              batcher_.sampled().size(), " texts of ", vector));
    }
    batcher_.CommitVectors(*logits);
  } else {
    std::vector<SampledToken> sampled;
    if (absl::Status status = Sample(*logits, sampled); !status.ok()) return status;
    batcher_.Commit(sampled);
  }
  Flush();
  cost_.Observe(tokens, std::chrono::duration<double, std::micro>(clock_() - start).count());
  return absl::OkStatus();
}

absl::Status Leader::Sample(absl::Span<const float> rows, std::vector<SampledToken>& tokens) {
  const size_t vocab = static_cast<size_t>(shard_->executor().facts().vocab_size);
  absl::Span<Sequence* const> wanted = batcher_.sampled();
  const absl::Span<const BestTokens> best = shard_->executor().best();
  const auto picked = [&](size_t i) { return !best.empty() && !best[i].tokens.empty(); };
  size_t whole = 0;
  for (size_t i = 0; i < wanted.size(); ++i) whole += picked(i) ? 0 : 1;
  if (rows.size() != whole * vocab || (!best.empty() && best.size() != wanted.size())) {
    return absl::InternalError(absl::StrCat("the executor gave ", rows.size(), " logits and the best of ", best.size(),
                                            " rows for ", wanted.size(), " sequences and a vocabulary of ", vocab));
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    const Sequence& sequence = *wanted[i];
    SampleInput in{.sampling = &sequence.request->sampling,
                   .counts = &sequence.counts,
                   .forbidden = batcher_.Forbidden(sequence),
                   .index = sequence.output_tokens(),
                   .logprobs = sequence.request->logprobs};
    if (picked(i)) {
      absl::StatusOr<std::optional<SampledToken>> token = sampler_.SampleFromBest(in, best[i], vocab);
      if (!token.ok()) return token.status();
      if (token->has_value()) {
        tokens.push_back(**std::move(token));
        continue;
      }
      absl::StatusOr<absl::Span<const float>> row = shard_->FetchRow(i);
      if (!row.ok()) return row.status();
      in.logits = *row;
    } else {
      in.logits = rows.first(vocab);
      rows.remove_prefix(vocab);
    }
    absl::StatusOr<SampledToken> token = sampler_.Sample(in);
    if (!token.ok()) return token.status();
    tokens.push_back(*std::move(token));
  }
  return absl::OkStatus();
}

// Tells log and scheduler what happened. The log first: what was told can be told again.
void Leader::Flush() {
  std::vector<RequestUpdate> updates = batcher_.TakeUpdates();
  for (const RequestUpdate& update : updates) log_->Note(update);
  if (!updates.empty()) {
    report_(StepDone{.group = shard_->ref(), .step = shard_->steps(), .updates = std::move(updates)});
  }
  if (BlockAllocator::Changes changes = batcher_.TakeCacheChanges(); !changes.empty()) {
    report_(CacheChanged{.group = shard_->ref(), .changes = std::move(changes)});
  }
}

void Leader::FillStatus(ShardStatus& status) const {
  status.free_blocks = batcher_.free_blocks();
  status.cached_blocks = batcher_.cached_blocks();
  status.running = batcher_.running();
  status.waiting = batcher_.waiting();
  status.preemptions = batcher_.preemptions();
  status.step_us_mean = cost_.mean_us();
  status.step_tokens_mean = cost_.mean_tokens();
}

}  // namespace tandem::worker
