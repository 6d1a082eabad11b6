#include "worker/engine/batcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "worker/engine/fake_executor_for_test.h"
#include "worker/engine/sequence_table.h"

namespace tandem::worker {
namespace {

using ::testing::HasSubstr;

constexpr GroupEpoch kEpoch{.leader = 1, .counter = 1};

AttemptId Id(uint32_t name) {
  AttemptId id{.attempt = {.leader = 1, .counter = 1}};
  for (int i = 0; i < 4; ++i) id.request[i] = static_cast<uint8_t>(name >> (8 * i));
  return id;
}

// A group of one rank without threads: the batcher, the table, and an executor whose tokens show any mistake.
class Bench {
 public:
  explicit Bench(BatcherLimits limits, int32_t blocks)
      : limits_(limits),
        batcher_(limits, blocks, {kFakeEos}),
        table_(1, kEpoch,
               {.max_sequences = limits.max_sequences,
                .max_batch_tokens = limits.max_batch_tokens,
                .max_model_len = limits.max_model_len,
                .num_blocks = blocks,
                .vocab_size = kFakeVocab}) {
    EXPECT_TRUE(executor_.AllocateKv(blocks).ok());
  }

  struct Seen {
    std::vector<TokenId> output;  // Produced, and the stop token.
    int started = 0;
    int preempted = 0;
    uint32_t cached = 0;
    std::optional<Ended> ended;
  };

  void Add(Request request) {
    auto shared = std::make_shared<const Request>(std::move(request));
    requests_[shared->id] = shared;
    batcher_.Add(shared);
    Collect();
  }

  // False if there was nothing to do.
  bool Step(StepCost cost = {}) {
    std::optional<StepPlan> plan = batcher_.Plan(cost);
    if (!plan) return false;
    plan->group_id = 1;
    plan->epoch = kEpoch;
    plan->step = table_.last_step() + 1;
    StepPlan sent = DecodePlan(EncodePlan(*plan)).value();
    absl::StatusOr<StepInput> input = table_.Apply(sent);
    EXPECT_TRUE(input.ok()) << input.status();
    absl::Span<const float> logits = executor_.Run(*input).value();
    std::vector<SampledToken> tokens;
    for (size_t i = 0; i < batcher_.sampled().size(); ++i) {
      Sequence& sequence = *batcher_.sampled()[i];
      tokens.push_back(sampler_
                           .Sample({.logits = logits.subspan(i * kFakeVocab, kFakeVocab),
                                    .sampling = &sequence.request->sampling,
                                    .counts = &sequence.counts,
                                    .forbidden = batcher_.Forbidden(sequence),
                                    .index = sequence.output_tokens()})
                           .value());
    }
    batcher_.Commit(tokens);
    last_ = sent;
    Collect();
    absl::Status sound = batcher_.CheckInvariants();
    EXPECT_TRUE(sound.ok()) << sound;
    return true;
  }

  void RunToEnd() {
    int steps = 0;
    while (Step()) ASSERT_LT(++steps, 100000);
  }

  void Collect() {
    for (RequestUpdate& update : batcher_.TakeUpdates()) {
      Seen& seen = seen_[update.id];
      EXPECT_FALSE(seen.ended) << "an update after the end of " << update.id.ToString();
      if (std::holds_alternative<Preempted>(update.what)) {
        ++seen.preempted;
      } else if (auto* started = std::get_if<Started>(&update.what)) {
        ++seen.started;
        seen.cached = started->cached_tokens;
      } else if (auto* produced = std::get_if<Produced>(&update.what)) {
        EXPECT_EQ(produced->first_index, requests_[update.id]->output.size() + seen.output.size());
        seen.output.insert(seen.output.end(), produced->tokens.begin(), produced->tokens.end());
      } else {
        seen.ended = std::get<Ended>(update.what);
        if (seen.ended->stop_token) seen.output.push_back(*seen.ended->stop_token);
        if (seen.ended->how != Ended::How::kRefused) {
          EXPECT_EQ(seen.ended->output_tokens, requests_[update.id]->output.size() + seen.output.size());
        }
      }
    }
  }

  // The output is the reference's, whole or (for aborted requests) its beginning.
  void ExpectReference(const AttemptId& id) {
    std::vector<TokenId> want = FakeReference(*requests_[id], limits_.max_model_len);
    std::vector<TokenId> got = requests_[id]->output;
    got.insert(got.end(), seen_[id].output.begin(), seen_[id].output.end());
    if (seen_[id].ended && seen_[id].ended->how == Ended::How::kAborted) {
      ASSERT_LE(got.size(), want.size());
      want.resize(got.size());
    }
    EXPECT_EQ(got, want) << id.ToString();
  }

  const BatcherLimits limits_;
  Batcher batcher_;
  SequenceTable table_;
  FakeExecutor executor_{nullptr};
  Sampler sampler_;
  StepPlan last_;
  std::map<AttemptId, std::shared_ptr<const Request>> requests_;
  std::map<AttemptId, Seen> seen_;
};

Request Prompt(uint32_t name, int tokens, uint32_t max_tokens) {
  Request request{.id = Id(name), .max_tokens = max_tokens, .ignore_eos = true};
  for (int i = 0; i < tokens; ++i) request.prompt.push_back(static_cast<TokenId>((name * 31 + i * 7) % 90));
  return request;
}

constexpr BatcherLimits kRoomy{.max_sequences = 8, .max_batch_tokens = 64, .max_model_len = 512};

TEST(BatcherTest, APromptIsCutIntoPiecesAndThenOneTokenComesPerStep) {
  Bench bench(kRoomy, 64);
  bench.Add(Prompt(1, 100, 3));
  ASSERT_TRUE(bench.Step());
  EXPECT_EQ(bench.last_.tokens.size(), 64u);
  EXPECT_FALSE(bench.last_.entries[0].sample);
  ASSERT_TRUE(bench.Step());
  EXPECT_EQ(bench.last_.tokens.size(), 36u);
  EXPECT_TRUE(bench.last_.entries[0].sample);
  ASSERT_TRUE(bench.Step());
  EXPECT_EQ(bench.last_.tokens.size(), 1u);
  bench.RunToEnd();
  EXPECT_EQ(bench.seen_[Id(1)].ended->how, Ended::How::kLengthReached);
  bench.ExpectReference(Id(1));
  EXPECT_EQ(bench.batcher_.free_blocks(), 64);
}

TEST(BatcherTest, StreamsGoOnWhileALongPromptComesIn) {
  Bench bench(kRoomy, 64);
  bench.Add(Prompt(1, 4, 50));
  bench.Step();
  bench.Add(Prompt(2, 300, 5));
  for (int i = 0; i < 4; ++i) {
    size_t before = bench.seen_[Id(1)].output.size();
    bench.Step();
    EXPECT_EQ(bench.seen_[Id(1)].output.size(), before + 1);
  }
  bench.RunToEnd();
  bench.ExpectReference(Id(1));
  bench.ExpectReference(Id(2));
}

TEST(BatcherTest, TheStepBudgetCutsPromptsButNeverToNothing) {
  BatcherLimits limits = kRoomy;
  limits.max_batch_tokens = 256;
  limits.step_budget_us = 1000;
  Bench bench(limits, 64);
  bench.Add(Prompt(1, 300, 2));
  bench.Step({.fixed_us = 200, .per_token_us = 10});
  EXPECT_EQ(bench.last_.tokens.size(), 80u);
  bench.Step({.fixed_us = 5000, .per_token_us = 10});
  EXPECT_EQ(bench.last_.tokens.size(), Batcher::kLeastPrefill);
  bench.RunToEnd();
  bench.ExpectReference(Id(1));
}

TEST(BatcherTest, PriorityThenArrival) {
  BatcherLimits limits = kRoomy;
  limits.max_sequences = 1;
  Bench bench(limits, 64);
  for (uint32_t i = 1; i <= 3; ++i) bench.Add(Prompt(i, 4, 2));
  Request urgent = Prompt(4, 4, 2);
  urgent.priority = 1;
  bench.Add(urgent);
  std::vector<uint32_t> order;
  for (int steps = 0; bench.Step() && steps < 100; ++steps) {
    for (uint32_t i = 1; i <= 4; ++i) {
      if (bench.seen_[Id(i)].started == 1 && std::find(order.begin(), order.end(), i) == order.end())
        order.push_back(i);
    }
  }
  EXPECT_THAT(order, ::testing::ElementsAre(4, 1, 2, 3));
}

TEST(BatcherTest, WhatCanNeverFitIsRefusedWithTheNumbers) {
  Bench bench(kRoomy, 4);
  bench.Add(Prompt(1, 30, 36));  // 65 computed tokens: 5 blocks.
  EXPECT_EQ(bench.seen_[Id(1)].ended->how, Ended::How::kRefused);
  EXPECT_THAT(bench.seen_[Id(1)].ended->message, HasSubstr("need 5 KV blocks, the pool has 4"));
  bench.Add(Prompt(2, 30, 35));
  EXPECT_FALSE(bench.seen_[Id(2)].ended);
  bench.Add(Prompt(3, 512, 1));
  EXPECT_THAT(bench.seen_[Id(3)].ended->message, HasSubstr("512 tokens leave no room"));
  bench.Add(Prompt(4, 0, 1));
  EXPECT_THAT(bench.seen_[Id(4)].ended->message, HasSubstr("no tokens"));
  bench.RunToEnd();
  bench.ExpectReference(Id(2));
}

TEST(BatcherTest, AFullQueueRefuses) {
  BatcherLimits limits = kRoomy;
  limits.max_sequences = limits.max_waiting = 1;
  Bench bench(limits, 64);
  for (uint32_t i = 1; i <= 3; ++i) bench.Add(Prompt(i, 4, 2));
  EXPECT_EQ(bench.seen_[Id(3)].ended->how, Ended::How::kRefused);
  EXPECT_THAT(bench.seen_[Id(3)].ended->message, HasSubstr("2 requests wait"));
}

TEST(BatcherTest, TheYoungestGivesWayAndRepeatsItself) {
  // Three requests of 7 blocks each at their end, 12 blocks: they start together and can not all grow.
  Bench bench(kRoomy, 12);
  for (uint32_t i = 1; i <= 3; ++i) {
    Request request = Prompt(i, 20, 80);
    request.sampling = {.temperature = 1.0f, .frequency_penalty = 0.2f, .seed = i};
    bench.Add(request);
  }
  bench.RunToEnd();
  EXPECT_EQ(bench.seen_[Id(1)].preempted, 0);
  EXPECT_GT(bench.seen_[Id(3)].preempted, 0);
  EXPECT_EQ(bench.seen_[Id(3)].started, 1);
  for (uint32_t i = 1; i <= 3; ++i) bench.ExpectReference(Id(i));
  EXPECT_EQ(bench.batcher_.free_blocks(), 12);
}

TEST(BatcherTest, ASharedPrefixIsComputedOnce) {
  Bench bench(kRoomy, 64);
  Request first = Prompt(1, 50, 4);
  bench.Add(first);
  bench.RunToEnd();
  EXPECT_EQ(bench.seen_[Id(1)].cached, 0u);

  Request second = first;
  second.id = Id(2);
  bench.Add(second);
  bench.RunToEnd();
  EXPECT_EQ(bench.seen_[Id(2)].cached, 48u);
  EXPECT_EQ(bench.seen_[Id(2)].output, bench.seen_[Id(1)].output);

  // The last prompt token is computed even where its block is there.
  Request exact = first;
  exact.id = Id(3);
  exact.prompt.resize(48);
  bench.Add(exact);
  bench.RunToEnd();
  EXPECT_EQ(bench.seen_[Id(3)].cached, 32u);
  bench.ExpectReference(Id(3));

  Request salted = first;
  salted.id = Id(4);
  salted.cache_salt = "another tenant";
  bench.Add(salted);
  bench.RunToEnd();
  EXPECT_EQ(bench.seen_[Id(4)].cached, 0u);
}

TEST(BatcherTest, AnAbortFreesEverythingInEveryPhase) {
  BatcherLimits limits = kRoomy;
  limits.max_sequences = 2;
  Bench bench(limits, 64);
  bench.Add(Prompt(1, 8, 50));
  bench.Step();
  bench.Add(Prompt(2, 200, 50));
  bench.Step();
  bench.Add(Prompt(3, 8, 50));
  for (uint32_t i = 1; i <= 3; ++i) EXPECT_TRUE(bench.batcher_.Abort(Id(i), "test"));
  EXPECT_FALSE(bench.batcher_.Abort(Id(3), "test"));
  bench.Collect();
  for (uint32_t i = 1; i <= 3; ++i) EXPECT_EQ(bench.seen_[Id(i)].ended->how, Ended::How::kAborted);
  EXPECT_EQ(bench.batcher_.free_blocks(), 64);
  EXPECT_TRUE(bench.batcher_.idle());
  // The slots come back on the ranks, too.
  bench.Add(Prompt(4, 8, 3));
  bench.Add(Prompt(5, 8, 3));
  bench.RunToEnd();
  bench.ExpectReference(Id(4));
}

TEST(BatcherTest, ADeadlineEndsARequestInEveryPhase) {
  Bench bench(kRoomy, 64);
  SteadyTime start{};
  Request running = Prompt(1, 8, 50);
  running.deadline = start + std::chrono::seconds(1);
  bench.Add(running);
  bench.Step();
  Request waiting = Prompt(2, 8, 50);
  waiting.deadline = start + std::chrono::seconds(2);
  bench.Add(waiting);
  bench.batcher_.Expire(start + std::chrono::seconds(1));
  bench.Collect();
  EXPECT_TRUE(bench.seen_[Id(1)].ended);
  EXPECT_FALSE(bench.seen_[Id(2)].ended);
  bench.batcher_.Expire(start + std::chrono::seconds(2));
  bench.Collect();
  EXPECT_THAT(bench.seen_[Id(2)].ended->message, HasSubstr("deadline"));
}

TEST(BatcherTest, EndOfSequenceEndsUnlessItIsIgnoredOrTooEarly) {
  // Some prompt whose reference meets the end-of-sequence token after a few tokens, but not at once.
  for (uint32_t name = 1; name < 2000; ++name) {
    Request request = Prompt(name, 5, 40);
    request.ignore_eos = false;
    std::vector<TokenId> reference = FakeReference(request, 512);
    if (reference.back() != kFakeEos || reference.size() < 3) continue;
    Bench bench(kRoomy, 64);
    bench.Add(request);
    bench.RunToEnd();
    EXPECT_EQ(bench.seen_[request.id].ended->how, Ended::How::kStopped);
    EXPECT_EQ(bench.seen_[request.id].ended->stop_token, kFakeEos);
    bench.ExpectReference(request.id);

    Request later = request;
    later.id = Id(name + 10000);
    later.min_tokens = reference.size();
    bench.Add(later);
    Request ignoring = request;
    ignoring.id = Id(name + 20000);
    ignoring.ignore_eos = true;
    bench.Add(ignoring);
    bench.RunToEnd();
    EXPECT_GT(bench.seen_[later.id].output.size(), reference.size());
    bench.ExpectReference(later.id);
    EXPECT_EQ(bench.seen_[ignoring.id].ended->how, Ended::How::kLengthReached);
    bench.ExpectReference(ignoring.id);
    return;
  }
  FAIL() << "no prompt found";
}

TEST(BatcherTest, AResumedRequestGoesOnWhereItWas) {
  Bench bench(kRoomy, 64);
  Request request = Prompt(1, 20, 30);
  request.sampling = {.temperature = 0.8f, .top_p = 0.9f, .repetition_penalty = 1.2f, .seed = 5};
  std::vector<TokenId> reference = FakeReference(request, 512);
  request.output.assign(reference.begin(), reference.begin() + 13);
  bench.Add(request);
  bench.RunToEnd();
  EXPECT_EQ(bench.seen_[Id(1)].output.size(), 17u);
  bench.ExpectReference(Id(1));

  request.id = Id(2);
  request.output = reference;
  bench.Add(request);
  EXPECT_EQ(bench.seen_[Id(2)].ended->how, Ended::How::kLengthReached);
  EXPECT_EQ(bench.seen_[Id(2)].started, 0);
}

TEST(BatcherTest, TheContextEndsARequest) {
  BatcherLimits limits = kRoomy;
  limits.max_model_len = 40;
  Bench bench(limits, 64);
  bench.Add(Prompt(1, 30, 1000));
  bench.RunToEnd();
  EXPECT_EQ(bench.seen_[Id(1)].output.size(), 10u);
  EXPECT_EQ(bench.seen_[Id(1)].ended->how, Ended::How::kLengthReached);
}

// Random loads over tiny pools: every request ends once, with the reference's tokens, and no block is left.
TEST(BatcherTest, RandomLoadsEndExactlyOnceWithTheRightTokens) {
  for (uint32_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    BatcherLimits limits{.max_sequences = 1 + static_cast<uint32_t>(random() % 12),
                         .max_model_len = 200,
                         .step_budget_us = random() % 2 == 0 ? 0 : 400,
                         .prefix_cache = random() % 3 != 0};
    limits.max_batch_tokens = limits.max_sequences + random() % 60;
    int32_t blocks = 8 + random() % 30;
    Bench bench(limits, blocks);
    uint32_t next = 1;
    std::vector<AttemptId> open;
    while (next <= 64 || !bench.batcher_.idle()) {
      if (next <= 64 && random() % 3 != 0) {
        Request request = Prompt(random() % 4, 1 + random() % 90, 1 + random() % 60);  // Few prompts: prefixes meet.
        request.id = Id(next++);
        request.ignore_eos = random() % 2 == 0;
        request.priority = static_cast<int32_t>(random() % 3);
        if (random() % 2 == 0) {
          request.sampling = {.temperature = 0.9f, .top_k = 20, .presence_penalty = 0.3f, .seed = random()};
        }
        open.push_back(request.id);
        bench.Add(request);
      }
      if (random() % 20 == 0 && !open.empty()) {
        bench.batcher_.Abort(open[random() % open.size()], "test");
        bench.Collect();
      }
      bench.Step({.fixed_us = 50, .per_token_us = 1.0 + static_cast<double>(random() % 20)});
    }
    ASSERT_EQ(bench.seen_.size(), 64u);
    int ran = 0;
    for (auto& [id, seen] : bench.seen_) {
      ASSERT_TRUE(seen.ended) << id.ToString();
      if (seen.ended->how == Ended::How::kRefused) continue;
      bench.ExpectReference(id);
      ++ran;
    }
    EXPECT_GT(ran, 10);
    EXPECT_EQ(bench.batcher_.free_blocks(), blocks);
  }
}

// An encoder reads a text in one step, and answers it there.
class EncoderBatcherTest : public testing::Test {
 protected:
  void Add(uint32_t name, int tokens) { batcher_.Add(std::make_shared<const Request>(Prompt(name, tokens, 1))); }
  // The texts of the next step, by their lengths; each is answered with its length, twice.
  std::vector<uint32_t> Step(StepCost cost = {}) {
    const std::optional<StepPlan> plan = batcher_.Plan(cost);
    std::vector<uint32_t> lengths;
    if (!plan) return lengths;
    std::vector<float> vectors;
    for (const PlanEntry& entry : plan->entries) {
      EXPECT_TRUE(entry.sample && entry.fresh && entry.start == 0);
      lengths.push_back(entry.token_count);
      vectors.insert(vectors.end(), 2, static_cast<float>(entry.token_count));
    }
    batcher_.CommitVectors(vectors);
    EXPECT_TRUE(batcher_.CheckInvariants().ok()) << batcher_.CheckInvariants();
    return lengths;
  }

  Batcher batcher_{{.max_sequences = 3,
                    .max_batch_tokens = 32,
                    .max_model_len = 33,
                    .step_budget_us = 1000,
                    .prefix_cache = false,
                    .whole_prompts = true},
                   64,
                   {}};
};

TEST_F(EncoderBatcherTest, TextsGoIntoAStepWholeOrNotAtAll) {
  uint32_t name = 0;
  for (const int tokens : {20, 12, 1, 20, 20, 7}) Add(++name, tokens);
  batcher_.TakeUpdates();
  EXPECT_EQ(Step(), (std::vector<uint32_t>{20, 12}));
  EXPECT_EQ(Step(), (std::vector<uint32_t>{1, 20}));
  EXPECT_EQ(Step(), (std::vector<uint32_t>{20, 7}));
  EXPECT_TRUE(batcher_.idle());
  EXPECT_EQ(batcher_.free_blocks(), 64);
}

TEST_F(EncoderBatcherTest, OneLongerThanTheBudgetGoesAlone) {
  const StepCost slow{.fixed_us = 0, .per_token_us = 100};  // ten tokens in the budget; sixteen are the least
  uint32_t name = 0;
  for (const int tokens : {32, 10, 6, 10}) Add(++name, tokens);
  EXPECT_EQ(Step(slow), (std::vector<uint32_t>{32}));
  EXPECT_EQ(Step(slow), (std::vector<uint32_t>{10, 6}));
  EXPECT_EQ(Step(slow), (std::vector<uint32_t>{10}));
}

TEST_F(EncoderBatcherTest, AnEndCarriesTheVectorAndNoSlotIsLeft) {
  for (uint32_t i = 1; i <= 5; ++i) Add(i, static_cast<int>(i));
  EXPECT_EQ(Step().size(), 3u) << "no more than there are slots";
  const std::vector<RequestUpdate> updates = batcher_.TakeUpdates();
  ASSERT_EQ(updates.size(), 6u);  // started and ended, of three
  const auto* ended = std::get_if<Ended>(&updates[4].what);
  ASSERT_NE(ended, nullptr);
  const float expected[2] = {2, 2};
  EXPECT_EQ(ended->vector, std::string(reinterpret_cast<const char*>(expected), sizeof(expected)));
  EXPECT_EQ(ended->output_tokens, 1u);
  EXPECT_EQ(Step().size(), 2u);
}

TEST_F(EncoderBatcherTest, AVectorThatIsNoNumberIsSaidInsteadOfSent) {
  for (uint32_t i = 1; i <= 3; ++i) Add(i, 4);
  ASSERT_TRUE(batcher_.Plan({}));
  const float inf = std::numeric_limits<float>::infinity();
  batcher_.CommitVectors({{1.0f, 2.0f, 3.0f, std::nanf(""), -inf, 6.0f}});
  std::vector<Ended> ends;
  for (const RequestUpdate& update : batcher_.TakeUpdates()) {
    if (const auto* ended = std::get_if<Ended>(&update.what)) ends.push_back(*ended);
  }
  ASSERT_EQ(ends.size(), 3u);
  EXPECT_EQ(ends[0].vector.size(), 8u);
  EXPECT_EQ(ends[0].unreadable, "");
  for (size_t i : {1u, 2u}) {
    EXPECT_EQ(ends[i].vector, "");
    EXPECT_THAT(ends[i].unreadable, testing::HasSubstr("not made of finite numbers"));
  }
}

TEST_F(EncoderBatcherTest, ATextOfMoreThanTheModelTakesIsRefused) {
  Add(1, 33);
  const std::vector<RequestUpdate> updates = batcher_.TakeUpdates();
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_EQ(std::get<Ended>(updates[0].what).how, Ended::How::kRefused);
}

TEST(StepCostTest, TheLineThroughSmallAndLargeSteps) {
  StepCostModel model;
  model.Observe(1, 1000);
  EXPECT_EQ(model.cost().TokensWithin(100000), 100) << "one size: all of the time is on the tokens";
  for (int i = 0; i < 10; ++i) model.Observe(201, 3000);
  EXPECT_NEAR(model.cost().per_token_us, 10, 0.1);
  EXPECT_NEAR(model.cost().fixed_us, 990, 1);
  for (int i = 0; i < 10000; ++i) model.Observe(1, 1000);
  EXPECT_NEAR(model.cost().per_token_us, 10, 0.1) << "streams do not wash out what prompts cost";
}

}  // namespace
}  // namespace tandem::worker
