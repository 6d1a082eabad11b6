// The CUDA executor against the reference implementation's logits, and against itself: however a prompt is cut, with
// whom a step is shared, through a graph or launch by launch.
//
// Tolerances are shares of the logits' size. Between products bfloat16 keeps 8 bits of mantissa and float16 11, which
// leaves errors of about 1e-2 and 1e-3 after a few layers; two computations that both round are off by the sum. What is
// really wrong (a row, a position, a mask) is off by 0.1 and more. Where only the order of things is at stake, float16
// is the sharper one.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/gpu/gpu_model_for_test.h"
#include "worker/cuda/graph_sizes.h"
#include "worker/engine/sampler.h"

namespace tandem::worker::cuda {
namespace {

float NearGolden(const std::string& dtype) { return dtype == "float16" ? 4e-3f : 2.5e-2f; }
float NearSelf(const std::string& dtype) { return 2 * NearGolden(dtype); }

std::vector<TokenId> Tokens(uint32_t seed, int count) {
  std::vector<TokenId> tokens;
  for (int i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    tokens.push_back(static_cast<TokenId>((seed >> 8) % 203));
  }
  return tokens;
}

std::vector<float> Alone(TestModel* model, const std::vector<TokenId>& tokens, int32_t first_block = 0) {
  TestSequence sequence{tokens, 0, ScatteredBlocks(first_block, static_cast<int32_t>(tokens.size() + 15) / 16)};
  return model->Run({sequence.Next(sequence.left(), true)})[0];
}

class GoldenOnDevice : public testing::TestWithParam<std::tuple<const char*, const char*, int>> {};

TEST_P(GoldenOnDevice, LogitsStayNearTheReferenceOnTheSameWeights) {
  SKIP_WITHOUT_DEVICES(1);
  const auto& [name, dtype, ranks] = GetParam();
  const Golden golden = ReadGolden(GoldenFolder(name));
  CudaExecutorOptions options = SmallOptions(GoldenFolder(name));
  options.dtype = dtype;
  TestModel model = GpuModel(options, ranks);
  // float16 keeps the files' float32 weights to 11 bits, so its reference is the one of the whole weights.
  const auto& reference = options.dtype == "bfloat16" ? golden.bfloat16 : golden.float32;
  for (size_t i = 0; i < golden.prompts.size(); ++i) {
    const auto rows = TwoRows(&model, golden.prompts[i], golden.greedy[i]);
    for (size_t j = 0; j < 2; ++j) {
      const std::vector<float>& wanted = reference[2 * i + j];
      EXPECT_LE(RelativeError(rows[j], wanted), NearGolden(dtype)) << "prompt " << i << ", row " << j;
      if (TopGap(wanted) > 4 * Distance(rows[j], wanted)) {
        EXPECT_EQ(Best(rows[j]), Best(wanted)) << "prompt " << i << ", row " << j;
      }
    }
  }
}

class DecodingOnDevice : public testing::TestWithParam<std::tuple<const char*, int>> {};

TEST_P(DecodingOnDevice, OneByOneStaysNearThePrefill) {
  SKIP_WITHOUT_DEVICES(1);
  const auto& [name, ranks] = GetParam();
  const char* const dtype = "float16";
  const Golden golden = ReadGolden(GoldenFolder(name));
  CudaExecutorOptions options = SmallOptions(GoldenFolder(name));
  options.dtype = dtype;
  TestModel model = GpuModel(options, ranks);
  TestSequence sequence{golden.prompts[0], 0, ScatteredBlocks(5, 8)};
  model.Run({sequence.Next(sequence.left(), true)});
  for (const TokenId token : golden.greedy[0]) {
    sequence.tokens.push_back(token);
    const std::vector<float> decoded = model.Run({sequence.Next(1, true)})[0];
    if (sequence.tokens.size() % 8 != 0) continue;
    const std::vector<float> whole = Alone(&model, sequence.tokens, 50);
    EXPECT_LE(RelativeError(decoded, whole), NearSelf(dtype)) << "after " << sequence.tokens.size() << " tokens";
  }
}

std::string Named(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

const auto kFamilies = testing::Values("llama-llama3-rope", "llama-tied-bf16", "llama-yarn-biases", "mistral-window",
                                       "qwen2-bias", "qwen3", "phi3-fused", "gpt2");

INSTANTIATE_TEST_SUITE_P(Families, GoldenOnDevice,
                         testing::Combine(kFamilies, testing::Values("bfloat16", "float16"), testing::Values(1, 2)),
                         [](const auto& info) {
                           return Named(absl::StrCat(std::get<0>(info.param), "_", std::get<1>(info.param), "_tp",
                                                     std::get<2>(info.param)));
                         });

INSTANTIATE_TEST_SUITE_P(Families, DecodingOnDevice, testing::Combine(kFamilies, testing::Values(1, 2)),
                         [](const auto& info) {
                           return Named(absl::StrCat(std::get<0>(info.param), "_tp", std::get<1>(info.param)));
                         });

class OnDevice : public testing::Test {
 protected:
  void SetUp() override {
    SKIP_WITHOUT_DEVICES(1);
    options_.dtype = "float16";
  }
  CudaExecutorOptions options_ = SmallOptions(GoldenFolder("llama-llama3-rope"));
};

TEST_F(OnDevice, AnyChunkingOfThePromptGivesNearlyTheSame) {
  TestModel model = GpuModel(options_);
  const std::vector<TokenId> tokens = Tokens(1, 75);
  const std::vector<float> whole = Alone(&model, tokens);
  for (const int chunk : {1, 5, 16, 17, 64}) {
    TestSequence sequence{tokens, 0, ScatteredBlocks(chunk, 5)};
    std::vector<std::vector<float>> rows;
    while (sequence.left() > 0) {
      const int32_t count = std::min(chunk, sequence.left());
      rows = model.Run({sequence.Next(count, count == sequence.left())});
    }
    EXPECT_LE(RelativeError(rows[0], whole), NearSelf(options_.dtype)) << "chunks of " << chunk;
  }
}

TEST_F(OnDevice, ARaggedBatchKeepsItsSequencesApart) {
  constexpr int kLengths[] = {33, 1, 16, 2, 48, 1, 17};
  TestModel model = GpuModel(options_);
  std::vector<std::vector<float>> alone;
  std::vector<TestSequence> sequences;
  int32_t block = 0;
  for (int i = 0; i < 7; ++i) {
    const std::vector<TokenId> tokens = Tokens(static_cast<uint32_t>(i) + 1, kLengths[i]);
    alone.push_back(Alone(&model, tokens));
    const int32_t blocks = (kLengths[i] + 15) / 16;
    sequences.push_back({tokens, 0, ScatteredBlocks(block, blocks, 1)});
    block += blocks;
  }
  std::vector<SequenceInput> step;
  // Every other one is sampled, so that rows and sequences do not coincide.
  for (size_t i = 0; i < sequences.size(); ++i) {
    step.push_back(sequences[i].Next(sequences[i].left(), i % 2 == 0));
  }
  const auto rows = model.Run(step);
  ASSERT_EQ(rows.size(), 4u);
  for (size_t r = 0; r < rows.size(); ++r)
    EXPECT_LE(RelativeError(rows[r], alone[2 * r]), NearSelf(options_.dtype)) << "row " << r;
}

TEST_F(OnDevice, APrefixOfAnotherSequenceIsAsGoodAsItsOwn) {
  TestModel model = GpuModel(options_);
  std::vector<TokenId> first = Tokens(4, 32), second = first;
  for (const TokenId token : Tokens(5, 20)) first.push_back(token);
  for (const TokenId token : Tokens(6, 9)) second.push_back(token);
  const std::vector<float> alone = Alone(&model, second);
  TestSequence owner{first, 0, {40, 41, 42, 43}};
  model.Run({owner.Next(owner.left(), true)});
  TestSequence guest{second, 32, {40, 41, 60}};
  EXPECT_LE(RelativeError(model.Run({guest.Next(guest.left(), true)})[0], alone), NearSelf(options_.dtype));
}

TEST_F(OnDevice, APreemptedSequenceIsRecomputedInOtherBlocks) {
  TestModel model = GpuModel(options_);
  TestSequence sequence{Tokens(7, 40), 0, {1, 2, 3}};
  model.Run({sequence.Next(30, false)});
  for (int i = 0; i < 9; ++i) model.Run({sequence.Next(1, true)});
  const std::vector<float> before = model.Run({sequence.Next(1, true)})[0];
  Alone(&model, Tokens(8, 90), 1);  // Takes its blocks.
  TestSequence again{sequence.tokens, 0, {30, 20, 10}};
  EXPECT_LE(RelativeError(model.Run({again.Next(40, true)})[0], before), NearSelf(options_.dtype));
}

TEST_F(OnDevice, TheShippedModelSaysWhatTheReferenceSays) {
  const absl::StatusOr<std::string> text = model::ReadSmallFile(SourcePath("tests/golden/tiny_greedy.json"), 1 << 20);
  ASSERT_TRUE(text.ok()) << text.status();
  const nlohmann::json cases = nlohmann::json::parse(*text).at("cases");
  CudaExecutorOptions options = SmallOptions(SourcePath("models/tandem-tiny"));
  options.dtype = "float16";  // keeps the margins between the best tokens of a small model
  TestModel model = GpuModel(options);
  for (size_t i = 0; i < 2; ++i) {
    const auto prompt = cases.at(i).at("prompt_ids").get<std::vector<TokenId>>();
    auto wanted = cases.at(i).at("greedy_ids").get<std::vector<TokenId>>();
    wanted.resize(16);
    EXPECT_EQ(Greedy(&model, prompt, wanted.size()), wanted) << "case " << i;
  }
}

// Decode steps of 1 to 12 sequences, of which only some are sampled, over graphs of 1, 2, 4, 8 and 12.
std::vector<std::vector<float>> DecodeSteps(TestModel* model) {
  std::vector<std::vector<float>> all;
  std::vector<TestSequence> sequences;
  for (int i = 0; i < 12; ++i) {
    sequences.push_back({Tokens(static_cast<uint32_t>(i) + 20, 24), 0, ScatteredBlocks(7 * i, 2, 1)});
    model->Run({sequences.back().Next(5, false)});
  }
  for (int count = 1; count <= 12; ++count) {
    std::vector<SequenceInput> step;
    for (int i = 0; i < count; ++i) {
      step.push_back(sequences[static_cast<size_t>(i)].Next(1, count < 3 || i % 3 != 1));
    }
    for (auto& row : model->Run(step)) all.push_back(std::move(row));
  }
  return all;
}

TEST_F(OnDevice, AGraphComputesWhatItsLaunchesDo) {
  for (const int ranks : {1, 2}) {
    options_.graphs = true;
    TestModel captured = GpuModel(options_, ranks, MakeCapturable);
    options_.graphs = false;
    TestModel eager = GpuModel(options_, ranks);
    const auto wanted = DecodeSteps(&eager);
    const auto got = DecodeSteps(&captured);
    ASSERT_EQ(got.size(), wanted.size());
    for (size_t i = 0; i < got.size(); ++i)
      EXPECT_LE(RelativeError(got[i], wanted[i]), NearSelf(options_.dtype)) << "row " << i;
  }
}

// A step of a prompt and eleven sequences that decode, or of those alone (a graph's), each with another wish.
class Wishes {
 public:
  explicit Wishes(uint32_t seed) {
    for (uint32_t i = 0; i < 12; ++i) {
      sequences_.push_back({Tokens(seed + i, i == 0 ? 9 : 1), 0, ScatteredBlocks(static_cast<int32_t>(5 * i), 1)});
      Sampling sampling{.temperature = i % 4 == 0 ? 0.0f : 0.3f * static_cast<float>(i % 4), .seed = seed + i};
      if (i % 3 == 1) sampling.top_k = 5;
      if (i % 3 == 2) sampling.top_p = i % 2 == 0 ? 0.3f : 0.99f;
      samplings_.push_back(sampling);
    }
  }
  std::vector<SequenceInput> Step(bool decode_only, bool whole) {
    std::vector<SequenceInput> step;
    for (size_t i = decode_only ? 1 : 0; i < sequences_.size(); ++i) {
      const TestSequence& sequence = sequences_[i];
      step.push_back({.tokens = sequence.tokens, .blocks = sequence.blocks, .sample = true});
      if (!whole) step.back().wanted = WantedOf(samplings_[i], {}, Logprobs(i));
    }
    return step;
  }
  SampleInput Input(size_t i) const { return {.sampling = &samplings_[i], .index = 3, .logprobs = Logprobs(i)}; }

 private:
  static std::optional<uint32_t> Logprobs(size_t i) { return i % 2 == 0 ? std::nullopt : std::optional<uint32_t>(4); }
  std::vector<TestSequence> sequences_;
  std::vector<Sampling> samplings_;
};

TEST_F(OnDevice, WhatTheDevicePicksIsWhatTheSamplerChoosesFromTheWholeRow) {
  for (const int ranks : {1, 2}) {
    TestModel model = GpuModel(options_, ranks);
    const size_t vocab = static_cast<size_t>(model.vocab());
    Sampler sampler;
    int picked = 0, fetched = 0;
    for (const bool decode_only : {false, true}) {
      for (uint32_t seed = 0; seed < 5; ++seed) {
        Wishes wishes(100 * seed);
        const size_t first = decode_only ? 1 : 0;
        const auto rows = model.Run(wishes.Step(decode_only, /*whole=*/true));
        const std::vector<SequenceInput> step = wishes.Step(decode_only, /*whole=*/false);
        const auto whole = model.Run(step);
        size_t next_whole = 0;
        const absl::Span<const BestTokens> best = model.rank(0).best();
        ASSERT_EQ(best.size(), step.size());
        for (size_t i = 0; i < step.size(); ++i) {
          SampleInput in = wishes.Input(first + i);
          in.logits = rows[i];
          const SampledToken wanted = sampler.Sample(in).value();
          ASSERT_EQ(best[i].tokens.empty(), step[i].wanted.best == 0);
          if (step[i].wanted.best == 0) {
            EXPECT_EQ(whole[next_whole++], rows[i]);
            continue;
          }
          const auto few = sampler.SampleFromBest(in, best[i], vocab);
          ASSERT_TRUE(few.ok()) << few.status();
          if (!few->has_value()) {
            const auto row = model.rank(0).FetchRow(i);
            ASSERT_TRUE(row.ok()) << row.status();
            EXPECT_EQ(std::vector<float>(row->begin(), row->end()), rows[i]);
            ++fetched;
            continue;
          }
          ++picked;
          EXPECT_EQ((*few)->token, wanted.token) << "ranks " << ranks << ", seed " << seed << ", sequence " << i;
          if (!wanted.logprobs) continue;
          EXPECT_FLOAT_EQ((*few)->logprobs->chosen.logprob, wanted.logprobs->chosen.logprob);
          ASSERT_EQ((*few)->logprobs->top.size(), 4u);
          for (size_t t = 0; t < 4; ++t) {
            EXPECT_EQ((*few)->logprobs->top[t].token, wanted.logprobs->top[t].token);
            EXPECT_FLOAT_EQ((*few)->logprobs->top[t].logprob, wanted.logprobs->top[t].logprob);
          }
        }
        EXPECT_EQ(next_whole, whole.size());
      }
    }
    EXPECT_GT(picked, 60);
    EXPECT_GT(fetched, 0) << "no row was flat enough to be asked for whole";
  }
}

TEST_F(OnDevice, EveryLayerIsCounted) {
  TestModel model = GpuModel(options_);
  const uint64_t before = model.rank(0).progress();
  Alone(&model, Tokens(1, 20));
  const uint64_t layers = model.rank(0).progress() - before;
  EXPECT_GE(layers, 2u);
  TestSequence sequence{Tokens(2, 2), 0, {9}};
  model.Run({sequence.Next(1, true)});
  EXPECT_EQ(model.rank(0).progress() - before, 2 * layers);
}

TEST_F(OnDevice, AWrongStepIsRefusedBeforeAnythingRuns) {
  TestModel model = GpuModel(options_);
  const std::vector<TokenId> tokens = {3};
  const std::vector<BlockId> blocks = {TestModel::kBlocks};
  const SequenceInput sequence{tokens, 0, blocks, true};
  const auto refused = model.rank(0).Run({{sequence}});
  EXPECT_TRUE(absl::IsInvalidArgument(refused.status())) << refused.status();
  EXPECT_THAT(std::string(refused.status().message()), testing::HasSubstr("block 96"));
  EXPECT_EQ(Alone(&model, Tokens(1, 5)).size(), static_cast<size_t>(model.vocab()));
}

TEST_F(OnDevice, WhatIsHeldIsReported) {
  SoloCommunicator control;
  const auto executor = LoadOnDevice(options_, &control);
  ASSERT_TRUE(executor.ok()) << executor.status();
  const MemoryReport loaded = (*executor)->memory();
  EXPECT_GT(loaded.weight_bytes, 0);
  EXPECT_GT(loaded.activation_bytes, 32 << 20);  // what products are given beside
  EXPECT_EQ(loaded.kv_bytes, 0);
  ASSERT_TRUE((*executor)->AllocateKv(10).ok());
  EXPECT_EQ((*executor)->memory().kv_bytes, 10 * (*executor)->facts().kv_bytes_per_block);
  EXPECT_THAT((*executor)->numerics_id(), testing::AllOf(testing::StartsWith("cuda/sm_"), testing::EndsWith("/near"),
                                                         testing::HasSubstr("/fp16/tp1/solo/")));
}

TEST_F(OnDevice, WhatDoesNotFitIsRefusedWithNumbers) {
  SoloCommunicator control;
  options_.memory_limit_bytes = 1 << 20;
  const auto refused = LoadOnDevice(options_, &control);
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status())) << refused.status();
  EXPECT_THAT(std::string(refused.status().message()), testing::HasSubstr("before any KV, 1048576 are free"));

  options_.memory_limit_bytes = 0;
  const auto executor = LoadOnDevice(options_, &control);
  ASSERT_TRUE(executor.ok()) << executor.status();
  const absl::Status pool = (*executor)->AllocateKv(1 << 30);
  EXPECT_TRUE(absl::IsResourceExhausted(pool)) << pool;
  EXPECT_TRUE((*executor)->AllocateKv(8).ok()) << "a pool that was refused takes nothing";
}

TEST_F(OnDevice, DtypesThatAreNotComputedAreNamed) {
  SoloCommunicator control;
  options_.dtype = "float32";
  const auto refused = LoadOnDevice(options_, &control);
  EXPECT_TRUE(absl::IsInvalidArgument(refused.status())) << refused.status();
  EXPECT_THAT(std::string(refused.status().message()), testing::HasSubstr("float32"));
}

TEST_F(OnDevice, APeerThatDoesNotComeEndsTheStepAndNotTheThread) {
  std::vector<std::string> lost;
  options_.on_lost = [&lost](absl::string_view reason) { lost.emplace_back(reason); };
  // Long enough for the ranks to meet while they load, on a machine that is busy.
  TestModel model([&](Communicator* control) { return LoadOnDevice(options_, control); }, 2, absl::Seconds(4));
  const std::vector<TokenId> tokens = {3, 4, 5};
  const std::vector<BlockId> blocks = {1};
  const SequenceInput sequence{tokens, 0, blocks, true};
  const auto stuck = model.rank(0).Run({{sequence}});
  EXPECT_TRUE(absl::IsDeadlineExceeded(stuck.status())) << stuck.status();
  EXPECT_THAT(lost, testing::IsEmpty()) << "the device came to rest once the group was aborted";
  EXPECT_FALSE(model.communicator(1).Health().ok()) << "the peer is told";
  EXPECT_EQ(model.rank(0).Run({{sequence}}).status(), stuck.status()) << "the executor is spent";
}

// Work of it, once it is stuck, holds the device until it is let go: no abort reaches it.
class StuckCommunicator final : public DeviceCommunicator {
 public:
  StuckCommunicator(std::unique_ptr<DeviceCommunicator> inner, const std::atomic<bool>* stuck)
      : inner_(std::move(inner)), stuck_(*stuck) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  absl::Status AllReduceSum(void* buffer, int64_t count, model::DType type, cudaStream_t stream) override {
    if (cudaLaunchHostFunc(stream, &Hold, const_cast<std::atomic<bool>*>(&stuck_)) != cudaSuccess) {
      return absl::InternalError("a host function");
    }
    return inner_->AllReduceSum(buffer, count, type, stream);
  }
  absl::Status Gather(const void* send, void* receive, int64_t count, model::DType type, cudaStream_t stream) override {
    return inner_->Gather(send, receive, count, type, stream);
  }
  bool capturable() const override { return inner_->capturable(); }
  std::string numerics() const override { return inner_->numerics(); }
  absl::Status Health() override { return inner_->Health(); }
  void Abort(absl::string_view reason) override { inner_->Abort(reason); }

 private:
  static void Hold(void* stuck) { static_cast<std::atomic<bool>*>(stuck)->wait(true); }

  const std::unique_ptr<DeviceCommunicator> inner_;
  const std::atomic<bool>& stuck_;
};

TEST_F(OnDevice, ADeviceThatDoesNotComeToRestIsLost) {
  options_.wait_limit = std::chrono::minutes(2);
  options_.drain_limit = std::chrono::milliseconds(300);
  std::atomic<bool> stuck{false};
  std::vector<std::string> lost;
  options_.on_lost = [&](absl::string_view reason) {
    lost.emplace_back(reason);
    stuck = false;  // A process would end here; this one has to come out of its test.
    stuck.notify_all();
  };
  const MakeDeviceCommunicator make = [&](Communicator* control,
                                          int64_t bytes) -> absl::StatusOr<std::unique_ptr<DeviceCommunicator>> {
    absl::StatusOr<std::unique_ptr<DeviceCommunicator>> inner = MakeStaged(control, bytes);
    if (!inner.ok()) return inner.status();
    return std::make_unique<StuckCommunicator>(*std::move(inner), &stuck);
  };
  TestModel model([&](Communicator* control) { return LoadOnDevice(options_, control, make); }, 2);
  stuck = true;
  // Rank 1 gives up, as an engine whose scheduler fences the group would.
  std::thread fence([&] { model.communicator(1).Abort("fenced"); });
  const std::vector<TokenId> tokens = {3, 4, 5};
  const std::vector<BlockId> blocks = {1};
  const SequenceInput sequence{tokens, 0, blocks, true};
  const auto ended = model.rank(0).Run({{sequence}});
  fence.join();
  EXPECT_FALSE(ended.ok());
  ASSERT_EQ(lost.size(), 1u);
  EXPECT_THAT(lost[0], testing::HasSubstr("fenced"));
  EXPECT_THAT(lost[0], testing::HasSubstr("coming to rest: the device is not done after"));
}

}  // namespace
}  // namespace tandem::worker::cuda
