#include "worker/engine/batcher.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/prefix_hash/prefix_hash.h"
#include "base/prefix_landmarks.h"

namespace tandem::worker {

Batcher::Batcher(const BatcherLimits& limits, int32_t num_blocks, std::vector<TokenId> eos_ids)
    : limits_(limits), eos_ids_(std::move(eos_ids)), pool_(num_blocks) {
  CHECK_GE(limits_.max_sequences, 1u);
  CHECK_GE(limits_.max_batch_tokens, limits_.max_sequences) << "every running sequence has a token in a step";
  for (uint32_t slot = 0; slot < limits_.max_sequences; ++slot) free_slots_.insert(slot);
}

absl::Status Batcher::CheckFits(const Request& request) const {
  int64_t known = static_cast<int64_t>(request.prompt.size() + request.output.size());
  if (request.prompt.empty()) return absl::InvalidArgumentError("the prompt has no tokens");
  if (request.max_tokens == 0) return absl::InvalidArgumentError("max_tokens is 0");
  if (known >= limits_.max_model_len) {
    return absl::OutOfRangeError(
        absl::StrCat(known, " tokens leave no room to answer in a context of ", limits_.max_model_len));
  }
  // The last token is never computed: nothing comes after it.
  int64_t longest = std::min<int64_t>(int64_t{request.max_tokens} + static_cast<int64_t>(request.prompt.size()),
                                      limits_.max_model_len);
  int32_t blocks = BlocksFor(std::max(longest - 1, known));
  if (blocks > pool_.num_blocks()) {
    return absl::OutOfRangeError(
        absl::StrCat("up to ", longest, " tokens need ", blocks, " KV blocks, the pool has ", pool_.num_blocks()));
  }
  // As many as run may all have come before the first of them was begun.
  if (waiting_.size() + running_.size() >= size_t{limits_.max_sequences} + limits_.max_waiting) {
    return absl::ResourceExhaustedError(absl::StrCat(waiting_.size(), " requests wait in this engine already"));
  }
  return absl::OkStatus();
}

void Batcher::Add(std::shared_ptr<const Request> request, std::vector<uint8_t> image) {
  CHECK(!has(request->id)) << request->id.ToString();
  auto owned = std::make_unique<Sequence>();
  Sequence& sequence = *owned;
  sequence.arrival = ++arrivals_;
  sequence.image = std::move(image);
  sequence.tokens.reserve(request->prompt.size() + std::min<size_t>(request->max_tokens, 4096));
  sequence.tokens = request->prompt;
  sequence.tokens.insert(sequence.tokens.end(), request->output.begin(), request->output.end());
  sequence.request = std::move(request);
  const Request& r = *sequence.request;
  if (r.sampling.penalizes()) {
    for (TokenId token : r.prompt) sequence.counts.AddPrompt(token);
    for (TokenId token : r.output) sequence.counts.AddOutput(token);
  }
  sequences_.emplace(r.id, std::move(owned));
  // An earlier attempt may have got all there is, but not have lived to say so.
  std::optional<Ended> over = r.output.empty() ? std::nullopt : EndedBy(sequence, r.output.back());
  if (over) {
    over->stop_token.reset();  // It stands in the known output, so it was not withheld.
    End(sequence, *std::move(over));
  } else if (absl::Status fits = CheckFits(r); !fits.ok()) {
    End(sequence, {.how = Ended::How::kRefused,
                   .output_tokens = sequence.output_tokens(),
                   .message = std::string(fits.message())});
  } else {
    waiting_.insert(&sequence);
  }
}

bool Batcher::Abort(const AttemptId& id, absl::string_view reason) {
  CHECK(!planned_);
  auto it = sequences_.find(id);
  if (it == sequences_.end()) return false;
  Sequence& sequence = *it->second;
  End(sequence,
      {.how = Ended::How::kAborted, .output_tokens = sequence.output_tokens(), .message = std::string(reason)});
  return true;
}

void Batcher::AbortAll(absl::string_view reason) {
  while (!sequences_.empty()) Abort(sequences_.begin()->first, reason);
}

void Batcher::Expire(SteadyTime now) {
  std::vector<AttemptId> late;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence->request->deadline && *sequence->request->deadline <= now) late.push_back(id);
  }
  for (const AttemptId& id : late) Abort(id, "its deadline passed");
}

std::optional<StepPlan> Batcher::Plan(const StepCost& cost) {
  CHECK(!planned_) << "the last plan was not committed";
  scheduled_.clear();
  sampled_.clear();
  StepPlan plan;

  // Who generates. Growing may preempt from the end of the order, so only sequences that were not reached yet.
  std::vector<Sequence*> prompts;
  for (auto it = running_.begin(); it != running_.end();) {
    Sequence& sequence = **it;
    if (sequence.to_compute() > 1) {
      prompts.push_back(&sequence);
      ++it;
      continue;
    }
    bool stays = GrowOrPreempt(sequence);
    // The victims stood behind this sequence, or it was itself the last.
    it = running_.upper_bound(&sequence);
    if (stays) Schedule(sequence, 1, plan);
  }

  uint32_t decoding = static_cast<uint32_t>(plan.tokens.size());
  uint32_t room = limits_.max_batch_tokens - decoding;
  if (limits_.step_budget_us > 0) {
    int64_t affordable = cost.TokensWithin(static_cast<double>(limits_.step_budget_us)) - decoding;
    room = std::min<uint32_t>(room, static_cast<uint32_t>(std::max<int64_t>(affordable, kLeastPrefill)));
  }
  auto schedule_prompt = [&](Sequence& sequence) {
    uint32_t count = std::min<uint32_t>(room, sequence.to_compute());
    Schedule(sequence, count, plan);
    room -= count;
  };
  for (Sequence* sequence : prompts) {
    if (room == 0) break;
    if (sequence->slot) schedule_prompt(*sequence);  // Else it was preempted just now.
  }
  while (room > 0 && !waiting_.empty()) {
    Sequence& sequence = **waiting_.begin();
    if (limits_.whole_prompts) {
      // The first one goes whatever the budget says: it cannot become shorter.
      const uint32_t whole = static_cast<uint32_t>(sequence.size());
      if (whole > room && !plan.entries.empty()) break;
      room = std::max(room, whole);
    }
    if (!Admit(sequence)) break;
    schedule_prompt(sequence);
  }

  if (scheduled_.empty()) {
    CHECK(running_.empty() || room == 0) << running_.size() << " sequences run and none has anything to compute";
    CHECK(waiting_.empty()) << waiting_.size() << " requests wait for an empty pool of " << pool_.free_blocks();
    return std::nullopt;
  }
  plan.retired = std::exchange(retired_, {});
  planned_ = true;
  return plan;
}

// Makes sure that the next token of a running sequence has a block. False if the sequence itself had to give way.
bool Batcher::GrowOrPreempt(Sequence& sequence) {
  while (BlocksFor(sequence.size()) > static_cast<int32_t>(sequence.blocks.size())) {
    if (std::optional<BlockId> block = pool_.Allocate()) {
      sequence.blocks.push_back(*block);
      continue;
    }
    CHECK_GT(running_.size(), 1u) << "a sequence of " << sequence.size() << " tokens does not fit the pool of "
                                  << pool_.num_blocks() << " blocks";
    Sequence* victim = *running_.rbegin();
    Preempt(*victim);
    if (victim == &sequence) return false;
  }
  return true;
}

// Gives a waiting sequence a slot, the cached blocks of its prefix, and free blocks for all its tokens; or changes
// nothing.
bool Batcher::Admit(Sequence& sequence) {
  if (free_slots_.empty()) return false;
  int32_t cached = 0;
  int32_t cached_free = 0;
  if (limits_.prefix_cache) {
    int32_t reusable = (sequence.size() - 1) / kBlockTokens;
    for (; cached < reusable; ++cached) {
      std::optional<BlockAllocator::Found> found = pool_.Find(HashOf(sequence, cached));
      if (!found) break;
      cached_free += found->free ? 1 : 0;
    }
  }
  int32_t fresh = BlocksFor(sequence.size()) - cached;
  // One block for each running sequence to grow into, or the newcomer would be preempted at once.
  int32_t reserve = static_cast<int32_t>(running_.size());
  if (pool_.free_blocks() - cached_free < fresh + reserve) return false;

  for (int32_t i = 0; i < cached; ++i) sequence.blocks.push_back(pool_.Acquire(HashOf(sequence, i)).value());
  for (int32_t i = 0; i < fresh; ++i) sequence.blocks.push_back(pool_.Allocate().value());
  sequence.computed = cached * kBlockTokens;
  sequence.published = cached;
  sequence.slot = *free_slots_.begin();
  free_slots_.erase(free_slots_.begin());
  waiting_.erase(&sequence);
  running_.insert(&sequence);
  if (!std::exchange(sequence.started, true)) {
    uint32_t prompt = static_cast<uint32_t>(sequence.request->prompt.size());
    Report(sequence, Started{.cached_tokens = std::min<uint32_t>(sequence.computed, prompt)});
  }
  return true;
}

void Batcher::Schedule(Sequence& sequence, uint32_t count, StepPlan& plan) {
  PlanEntry entry{.slot = *sequence.slot,
                  .fresh = !sequence.announced,
                  .sample = sequence.computed + static_cast<int32_t>(count) == sequence.size(),
                  .start = sequence.computed,
                  .token_count = count,
                  .second_text_at = static_cast<int32_t>(sequence.request->second_text_at),
                  .image = sequence.image};
  size_t known = sequence.announced ? sequence.sent_blocks : 0;
  entry.block_count = static_cast<uint32_t>(sequence.blocks.size() - known);
  plan.blocks.insert(plan.blocks.end(), sequence.blocks.begin() + known, sequence.blocks.end());
  auto first = sequence.tokens.begin() + sequence.computed;
  plan.tokens.insert(plan.tokens.end(), first, first + count);
  sequence.sent_blocks = sequence.blocks.size();
  sequence.announced = true;
  if (entry.sample) {
    entry.wanted = WantedOf(sequence.request->sampling, Forbidden(sequence), sequence.request->logprobs);
    sampled_.push_back(&sequence);
  }
  scheduled_.push_back({.sequence = &sequence, .count = count});
  plan.entries.push_back(entry);
}

absl::Span<const TokenId> Batcher::Forbidden(const Sequence& sequence) {
  forbidden_.clear();
  if (sequence.output_tokens() < sequence.request->min_tokens) {
    forbidden_ = sequence.request->stop_token_ids;
    if (!sequence.request->ignore_eos) forbidden_.insert(forbidden_.end(), eos_ids_.begin(), eos_ids_.end());
  }
  return forbidden_;
}

void Batcher::Commit(absl::Span<const SampledToken> tokens) {
  CHECK(planned_);
  CHECK_EQ(tokens.size(), sampled_.size());
  planned_ = false;
  for (const Scheduled& scheduled : scheduled_) {
    scheduled.sequence->computed += static_cast<int32_t>(scheduled.count);
    PublishFullBlocks(*scheduled.sequence);
  }
  for (size_t i = 0; i < sampled_.size(); ++i) {
    Sequence& sequence = *sampled_[i];
    TokenId token = tokens[i].token;
    uint32_t index = sequence.output_tokens();
    sequence.tokens.push_back(token);
    if (sequence.request->sampling.penalizes()) sequence.counts.AddOutput(token);
    std::optional<Ended> ended = EndedBy(sequence, token);
    if (!ended || !ended->stop_token) {
      Produced produced{.first_index = index, .tokens = {token}};
      if (tokens[i].logprobs) produced.logprobs.push_back(*tokens[i].logprobs);
      Report(sequence, std::move(produced));
    }
    if (ended) End(sequence, *std::move(ended));
  }
  scheduled_.clear();
  sampled_.clear();
}

void Batcher::CommitVectors(absl::Span<const float> vectors) {
  CHECK(planned_ && limits_.whole_prompts);
  CHECK_EQ(sampled_.size(), scheduled_.size());
  planned_ = false;
  scheduled_.clear();
  const size_t width = sampled_.empty() ? 0 : vectors.size() / sampled_.size();
  CHECK_EQ(vectors.size(), width * sampled_.size());
  for (size_t i = 0; i < sampled_.size(); ++i) {
    const auto part = vectors.subspan(i * width, width);
    Ended ended{.how = Ended::How::kLengthReached, .output_tokens = 1};
    if (std::all_of(part.begin(), part.end(), [](float x) { return std::isfinite(x); })) {
      ended.vector.assign(reinterpret_cast<const char*>(part.data()), part.size() * sizeof(float));
    } else {
      ended.unreadable = "the model's vector of it is not made of finite numbers; dtype: bfloat16 has more range";
    }
    End(*sampled_[i], std::move(ended));
  }
  sampled_.clear();
}

// Whether `last`, the last token of `sequence`, ends it.
std::optional<Ended> Batcher::EndedBy(const Sequence& sequence, TokenId last) const {
  const Request& request = *sequence.request;
  auto contains = [&](const std::vector<TokenId>& ids) { return std::find(ids.begin(), ids.end(), last) != ids.end(); };
  uint32_t output = sequence.output_tokens();
  // min_tokens forbids stop tokens by their index, and this one's was output - 1.
  bool may_stop = output > request.min_tokens;
  if (may_stop && (contains(request.stop_token_ids) || (!request.ignore_eos && contains(eos_ids_)))) {
    return Ended{.how = Ended::How::kStopped, .stop_token = last, .output_tokens = output};
  }
  if (output >= request.max_tokens || sequence.size() >= limits_.max_model_len) {
    return Ended{.how = Ended::How::kLengthReached, .output_tokens = output};
  }
  return std::nullopt;
}

const BlockHash& Batcher::HashOf(Sequence& sequence, int32_t block) {
  while (static_cast<int32_t>(sequence.hashes.size()) <= block) {
    size_t next = sequence.hashes.size();
    const BlockHash* parent = next == 0 ? nullptr : &sequence.hashes.back();
    auto tokens = absl::MakeConstSpan(sequence.tokens).subspan(next * kBlockTokens, kBlockTokens);
    CHECK_EQ(tokens.size(), static_cast<size_t>(kBlockTokens));
    BlockHash hash = HashPrefixBlock(parent, sequence.request->cache_salt, tokens);
    sequence.hashes.push_back(hash);
  }
  return sequence.hashes[block];
}

void Batcher::PublishFullBlocks(Sequence& sequence) {
  if (!limits_.prefix_cache) return;
  for (; (sequence.published + 1) * kBlockTokens <= sequence.computed; ++sequence.published) {
    pool_.Publish(sequence.blocks[sequence.published], HashOf(sequence, sequence.published),
                  limits_.report_all_blocks || IsLandmark(sequence.published + 1));
  }
}

void Batcher::Preempt(Sequence& sequence) {
  ++preemptions_;
  Report(sequence, Preempted{.computed_tokens = static_cast<uint32_t>(sequence.computed)});
  running_.erase(&sequence);
  FreeBlocks(sequence);
  waiting_.insert(&sequence);
}

void Batcher::FreeBlocks(Sequence& sequence) {
  // From the end, so that the head of the chain outlives its tail in the cache.
  for (auto it = sequence.blocks.rbegin(); it != sequence.blocks.rend(); ++it) pool_.Release(*it);
  sequence.blocks.clear();
  sequence.computed = 0;
  sequence.published = 0;
  sequence.sent_blocks = 0;
  if (!sequence.slot) return;
  free_slots_.insert(*sequence.slot);
  if (std::exchange(sequence.announced, false)) retired_.push_back(*sequence.slot);
  sequence.slot.reset();
}

void Batcher::End(Sequence& sequence, Ended ended) {
  (sequence.slot ? running_ : waiting_).erase(&sequence);
  FreeBlocks(sequence);
  Report(sequence, std::move(ended));
  sequences_.erase(AttemptId(sequence.request->id));
}

void Batcher::Report(const Sequence& sequence, decltype(RequestUpdate::what) what) {
  updates_.push_back({.id = sequence.request->id, .what = std::move(what)});
}

std::vector<RequestUpdate> Batcher::TakeUpdates() { return std::exchange(updates_, {}); }

absl::Status Batcher::CheckInvariants() const {
  if (absl::Status pool = pool_.CheckInvariants(); !pool.ok()) return pool;
  if (running_.size() + waiting_.size() != sequences_.size()) {
    return absl::InternalError(
        absl::StrCat(running_.size(), " run and ", waiting_.size(), " wait, of ", sequences_.size(), " sequences"));
  }
  if (running_.size() + free_slots_.size() != limits_.max_sequences) {
    return absl::InternalError(
        absl::StrCat(running_.size(), " run and ", free_slots_.size(), " slots are free, of ", limits_.max_sequences));
  }
  std::map<BlockId, int32_t> held;
  for (const Sequence* sequence : running_) {
    for (BlockId block : sequence->blocks) ++held[block];
    if (static_cast<int32_t>(sequence->blocks.size()) < BlocksFor(sequence->computed)) {
      return absl::InternalError(
          absl::StrCat(sequence->request->id.ToString(), " has computed more than it has blocks"));
    }
  }
  for (const Sequence* sequence : waiting_) {
    if (!sequence->blocks.empty() || sequence->slot) {
      return absl::InternalError(absl::StrCat(sequence->request->id.ToString(), " waits and holds blocks"));
    }
  }
  for (BlockId block = 0; block < pool_.num_blocks(); ++block) {
    auto it = held.find(block);
    int32_t references = it == held.end() ? 0 : it->second;
    if (pool_.references(block) != references) {
      return absl::InternalError(absl::StrCat("block ", block, " has ", pool_.references(block), " references, ",
                                              references, " sequences hold it"));
    }
  }
  return absl::OkStatus();
}

}  // namespace tandem::worker
