// The promise of DESIGN 9 through the whole engine: with one numerics_id a request's output has the same bits alone, in
// a full batch, under any chunking, after preemption, and with its prefix cached. With the model that ships.
#include <gtest/gtest.h>

#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "worker/comm/group_bootstrap.h"
#include "worker/comm/solo_communicator.h"
#include "worker/engine/engine_loop.h"
#include "worker/exec/cpu_executor.h"
#include "worker/exec/cpu_isa.h"

namespace tandem::worker {
namespace {

std::string ModelFolder() {
  const char* source = std::getenv("TANDEM_SOURCE_DIR");
  return absl::StrCat(source != nullptr ? source : ".", "/models/tandem-tiny");
}

AttemptId Id(uint8_t name) { return {.request = {name}, .attempt = {.leader = 1, .counter = 1}}; }

struct Answer {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;  // The bits behind the tokens.
  uint32_t cached = 0;
  int preempted = 0;
  bool operator==(const Answer& other) const { return tokens == other.tokens && logprobs == other.logprobs; }
};

// A group of `ranks` engines as threads, each with its slice of the model.
class CpuGroup {
 public:
  CpuGroup(int ranks, const std::string& isa, LoadSpec spec) {
    for (int r = 0; r < ranks; ++r) {
      rendezvous_.push_back(Rendezvous::Start().value());
      EngineLoop::Options options{.services = {.load_model =
                                                   [isa](const LoadSpec& s, Communicator* c) {
                                                     return LoadCpuModel(
                                                         {.folder = s.path,
                                                          .isa = isa,
                                                          .max_batch_tokens = static_cast<int32_t>(s.max_batch_tokens),
                                                          .max_sequences = static_cast<int32_t>(s.max_sequences)},
                                                         c);
                                                   },
                                               .free_bytes = [] { return int64_t{1} << 33; },
                                               .private_bytes = [] { return int64_t{0}; }},
                                  .join =
                                      [this, r](const GroupIdentity& identity, const std::atomic<bool>* cancelled) {
                                        return JoinGroup(*rendezvous_[r], identity, {.cancelled = cancelled});
                                      },
                                  .report = [this](Report report) { Take(report); }};
      engines_.push_back(std::make_unique<EngineLoop>(std::move(options)));
    }
    for (int r = 0; r < ranks; ++r) {
      GroupIdentity identity{.group_id = 1, .epoch = ref_.epoch, .rank = r, .size = ranks, .secret = {9}};
      for (auto& rendezvous : rendezvous_) identity.endpoints.push_back(rendezvous->endpoint());
      engines_[r]->Post(FormGroup{identity});
    }
    Await([&] { return formed_ == ranks || !failure_.empty(); });
    spec.path = ModelFolder();
    spec.model = "tandem-tiny";
    for (auto& engine : engines_) engine->Post(LoadModel{ref_, spec});
    Await([&] { return ready_ || !failure_.empty(); });
    EXPECT_EQ(failure_, "");
  }
  ~CpuGroup() {
    engines_.clear();  // Before what their reports reach.
  }

  // All at once, and all their answers.
  std::vector<Answer> Ask(std::vector<Request> requests) {
    {
      std::lock_guard lock(mu_);
      answers_.clear();
      ended_ = 0;
    }
    const int count = static_cast<int>(requests.size());
    std::vector<AttemptId> ids;
    for (Request& request : requests) {
      request.id.attempt.counter = ++attempts_;
      ids.push_back(request.id);
      EXPECT_TRUE(engines_[0]->Post(AssignRequest{ref_, request}));
    }
    Await([&] { return ended_ == count || !failure_.empty(); });
    EXPECT_EQ(failure_, "");
    std::lock_guard lock(mu_);
    std::vector<Answer> out;
    for (const AttemptId& id : ids) out.push_back(answers_[id]);
    return out;
  }

 private:
  template <typename Condition>
  void Await(Condition condition) {
    std::unique_lock lock(mu_);
    EXPECT_TRUE(came_.wait_for(lock, std::chrono::seconds(60), condition));
  }

  void Take(const Report& report) {
    std::lock_guard lock(mu_);
    if (std::holds_alternative<GroupFormed>(report)) ++formed_;
    if (std::holds_alternative<GroupReady>(report)) ready_ = true;
    if (auto* failed = std::get_if<GroupFailed>(&report)) {
      if (failed->failure.reason != FailureReason::kAborted) absl::StrAppend(&failure_, failed->failure.message, "\n");
    }
    if (auto* step = std::get_if<StepDone>(&report)) {
      for (const RequestUpdate& update : step->updates) {
        Answer& answer = answers_[update.id];
        if (auto* started = std::get_if<Started>(&update.what)) answer.cached = started->cached_tokens;
        if (std::holds_alternative<Preempted>(update.what)) ++answer.preempted;
        if (std::holds_alternative<Ended>(update.what)) ++ended_;
        if (auto* produced = std::get_if<Produced>(&update.what)) {
          answer.tokens.insert(answer.tokens.end(), produced->tokens.begin(), produced->tokens.end());
          for (const PositionLogprobs& p : produced->logprobs) answer.logprobs.push_back(p.chosen.logprob);
        }
      }
    }
    came_.notify_all();
  }

  const GroupRef ref_{.id = 1, .epoch = {.leader = 1, .counter = 1}};
  std::mutex mu_;
  std::condition_variable came_;
  int formed_ = 0;
  bool ready_ = false;
  int ended_ = 0;
  uint32_t attempts_ = 0;
  std::string failure_;
  std::map<AttemptId, Answer> answers_;
  std::vector<std::unique_ptr<Rendezvous>> rendezvous_;
  std::vector<std::unique_ptr<EngineLoop>> engines_;
};

std::vector<Request> Questions() {
  std::vector<Request> questions;
  for (uint8_t i = 0; i < 6; ++i) {
    Request request{.id = Id(i + 1), .max_tokens = 60u + 4u * i, .ignore_eos = true, .logprobs = 0};
    // The first forty tokens are common to all.
    for (int t = 0; t < 40 + 7 * i; ++t) request.prompt.push_back(5 + (t < 40 ? t * 3 : t * 5 + i) % 200);
    if (i % 2 == 1) request.sampling = {.temperature = 0.8f, .top_p = 0.95f, .seed = 77u + i};
    questions.push_back(request);
  }
  return questions;
}

LoadSpec Roomy() {
  return {.max_model_len = 256,
          .max_sequences = 8,
          .max_batch_tokens = 256,
          .kv_min_bytes = 1,
          .kv_target_bytes = 64 << 20,
          .prefix_cache = false};
}

class CpuModelTest : public ::testing::TestWithParam<std::tuple<int, std::string>> {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(ModelFolder() + "/model.safetensors")) GTEST_SKIP() << "no " << ModelFolder();
  }
  CpuGroup Group(const LoadSpec& spec) { return CpuGroup(std::get<0>(GetParam()), std::get<1>(GetParam()), spec); }
};

TEST_P(CpuModelTest, AnAnswerHasTheSameBitsHoweverItIsComputed) {
  std::vector<Answer> alone;
  int64_t block_bytes = 0;
  {
    CpuGroup group = Group(Roomy());
    for (const Request& question : Questions()) alone.push_back(group.Ask({question})[0]);
    for (const Answer& answer : alone) ASSERT_EQ(answer.tokens.size(), answer.logprobs.size());
    EXPECT_EQ(group.Ask(Questions()), alone) << "in a batch";
  }
  {
    LoadSpec chunks = Roomy();
    chunks.max_batch_tokens = 9;
    EXPECT_EQ(Group(chunks).Ask(Questions()), alone) << "in chunks";
  }
  {
    LoadSpec cached = Roomy();
    cached.prefix_cache = true;
    CpuGroup group = Group(cached);
    EXPECT_EQ(group.Ask({Questions()[0]})[0], alone[0]);
    std::vector<Answer> answers = group.Ask(Questions());
    EXPECT_EQ(answers, alone) << "with a cached prefix";
    EXPECT_EQ(answers[1].cached, 32u);
  }
  {
    absl::StatusOr<std::unique_ptr<Executor>> probe = [] {
      static SoloCommunicator solo;
      return LoadCpuModel({.folder = ModelFolder()}, &solo);
    }();
    ASSERT_TRUE(probe.ok()) << probe.status();
    block_bytes = (*probe)->facts().kv_bytes_per_block;
    LoadSpec tiny = Roomy();
    // Of rank 0 alone; with more ranks a block is smaller and the pool larger, so divide.
    tiny.kv_target_bytes = static_cast<uint64_t>(block_bytes / std::get<0>(GetParam()) * 14);
    std::vector<Answer> answers = Group(tiny).Ask(Questions());
    EXPECT_EQ(answers, alone) << "after preemption";
    int preempted = 0;
    for (const Answer& answer : answers) preempted += answer.preempted;
    EXPECT_GT(preempted, 0);
  }
}

// A migrated request comes as its prompt and the tokens that are known, and goes on with the very bits that it would
// have had: indices, draws, penalties and limits count from the boundary of prompt and output, wherever it was cut.
TEST_P(CpuModelTest, AnAnswerGoesOnFromWhereItWasCut) {
  CpuGroup group = Group(Roomy());
  std::vector<Request> questions = Questions();
  questions[2].sampling = {.temperature = 0.9f,
                           .presence_penalty = 0.7f,
                           .frequency_penalty = 0.5f,
                           .repetition_penalty = 1.2f,
                           .seed = 4242};
  questions[4].sampling = {.presence_penalty = 0.6f, .repetition_penalty = 1.3f};
  for (size_t q = 0; q < questions.size(); ++q) {
    const Request& question = questions[q];
    const Answer whole = group.Ask({question})[0];
    ASSERT_EQ(whole.tokens.size(), question.max_tokens);
    for (const size_t cut : {size_t{1}, size_t{17}, whole.tokens.size() - 1}) {
      Request rest = question;
      rest.output.assign(whole.tokens.begin(), whole.tokens.begin() + static_cast<std::ptrdiff_t>(cut));
      const Answer answer = group.Ask({rest})[0];
      Answer expected;
      expected.tokens.assign(whole.tokens.begin() + static_cast<std::ptrdiff_t>(cut), whole.tokens.end());
      expected.logprobs.assign(whole.logprobs.begin() + static_cast<std::ptrdiff_t>(cut), whole.logprobs.end());
      EXPECT_EQ(answer, expected) << "question " << q << " cut at " << cut;
    }
  }
}

// The least length counts known tokens too: what was cut after it may end, what was cut before may not yet.
TEST_P(CpuModelTest, TheLeastLengthCountsFromTheBoundary) {
  CpuGroup group = Group(Roomy());
  Request question = Questions()[0];
  const Answer free = group.Ask({question})[0];
  question.ignore_eos = false;
  question.stop_token_ids = {free.tokens[5]};
  question.min_tokens = 12;
  const Answer whole = group.Ask({question})[0];
  ASSERT_GE(whole.tokens.size(), 11u);
  for (size_t cut : {size_t{3}, size_t{8}, size_t{10}}) {
    Request rest = question;
    rest.output.assign(whole.tokens.begin(), whole.tokens.begin() + static_cast<std::ptrdiff_t>(cut));
    const Answer answer = group.Ask({rest})[0];
    const std::vector<TokenId> expected(whole.tokens.begin() + static_cast<std::ptrdiff_t>(cut), whole.tokens.end());
    EXPECT_EQ(answer.tokens, expected) << cut;
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, CpuModelTest,
                         ::testing::Combine(::testing::Values(1, 2), ::testing::ValuesIn(AvailableIsas())),
                         [](const auto& info) {
                           return absl::StrCat("of", std::get<0>(info.param), "_", std::get<1>(info.param));
                         });

}  // namespace
}  // namespace tandem::worker
