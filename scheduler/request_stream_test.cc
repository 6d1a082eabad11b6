#include "scheduler/request_stream.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <deque>
#include <random>

#include "scheduler/clock.h"

namespace tandem::scheduler {
namespace {

using Verdict = RequestStream::Verdict;

std::shared_ptr<const tokenizer::Tokenizer> TinyTokenizer() {
  static const auto tokenizer = [] {
    const char* root = std::getenv("TANDEM_SOURCE_DIR");
    auto loaded = tokenizer::Tokenizer::Load(std::string(root == nullptr ? "." : root) + "/models/tandem-tiny");
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return *loaded;
  }();
  return tokenizer;
}

std::vector<int32_t> Encode(const std::string& text) {
  const auto ids = TinyTokenizer()->Encode(text, {.add_special_tokens = false});
  EXPECT_TRUE(ids.ok()) << ids.status();
  return *ids;
}

// A client that reads at its own pace.
class Client : public ClientSink {
 public:
  explicit Client(RequestStream* stream, bool slow = false) : stream_(stream), slow_(slow), reader_(this) {}
  void Attach(size_t next = 0) {
    const auto error = stream_->Attach(&reader_, next);
    ASSERT_FALSE(error) << error->message;
    next_ = next;
    ReadAll();
  }
  void Leave() { stream_->Detach(&reader_); }

  void Open() override {
    ASSERT_FALSE(under_way_);
    ASSERT_FALSE(status_) << "opened after the end";
    ++opened_;
    under_way_ = true;
  }
  void Send(const v1::GenerateResponse& message, bool) override {
    ASSERT_FALSE(under_way_) << "two messages at a time";
    ASSERT_FALSE(status_) << "a message after the end";
    Take(message);
    under_way_ = true;
  }
  void SendLast(const v1::GenerateResponse& message) override {
    ASSERT_FALSE(under_way_);
    Take(message);
    ASSERT_FALSE(status_) << "a second end";
    status_ = grpc::Status::OK;
  }
  void End(const Error& error) override {
    ASSERT_FALSE(status_) << "a second end";
    status_ = ToGrpc(error);
  }
  // The message under way arrived; goes on until nothing is.
  void Step(bool ok = true) {
    if (!under_way_) return;
    under_way_ = false;
    stream_->OnSent(&reader_, ok);
  }
  void ReadAll() {
    while (under_way_ && !slow_) Step();
  }
  void SetSlow(bool slow) { slow_ = slow; }

  std::vector<int32_t> ids_;
  std::string text_;
  size_t opened_ = 0, chunks_ = 0, accepted_ = 0, progress_ = 0;
  v1::Accepted last_accepted_;
  std::optional<v1::Finished> finished_;
  std::optional<grpc::Status> status_;

 private:
  void Take(const v1::GenerateResponse& message) {
    if (message.has_accepted()) ++accepted_, last_accepted_ = message.accepted();
    if (message.has_progress()) ++progress_;
    if (message.has_finished()) finished_ = message.finished();
    if (!message.has_chunk()) return;
    ++chunks_;
    EXPECT_GT(accepted_, 0u) << "a chunk before Accepted";
    EXPECT_EQ(message.chunk().offset(), next_ + ids_.size());
    ids_.insert(ids_.end(), message.chunk().token_ids().begin(), message.chunk().token_ids().end());
    text_ += message.chunk().text();
  }
  RequestStream* const stream_;
  bool slow_;
  Reader reader_;
  size_t next_ = 0;
  bool under_way_ = false;
};

class RequestStreamTest : public ::testing::Test {
 protected:
  RequestStream& Make(std::vector<std::string> stop = {}, int64_t interval_ms = 0, std::vector<uint32_t> known = {}) {
    RequestStream::Facts facts;
    facts.id = {1, 2};
    facts.prompt_tokens = 3;
    facts.vocab_size = static_cast<uint32_t>(TinyTokenizer()->vocab_size());
    facts.tokenizer = TinyTokenizer();
    facts.stop = std::move(stop);
    facts.chunk_interval = core::Milliseconds(interval_ms);
    facts.arrived = Now();
    facts.known_output = std::move(known);
    facts.continues_text = true;
    stream_ = std::make_unique<RequestStream>(std::move(facts), v1::AssignRequest());
    return *stream_;
  }
  void Assign(core::Attempt attempt, uint32_t max_tokens = 10000) {
    v1::AssignRequest command;
    ASSERT_TRUE(stream_->OnAssigned({attempt, {7}, {1, 1}, {0}, max_tokens, "fake"}, &command));
    sent_output_.assign(command.output_ids().begin(), command.output_ids().end());
  }
  Verdict Produce(core::Attempt attempt, size_t first, const std::vector<int32_t>& ids, core::Instant now = Now()) {
    v1::Produced produced;
    produced.set_first_index(first);
    produced.mutable_token_ids()->Add(ids.begin(), ids.end());
    return stream_->OnProduced(attempt, produced, now, true);
  }
  Verdict End(core::Attempt attempt, v1::Ended::How how, size_t output) {
    v1::Ended ended;
    ended.set_how(how);
    ended.set_output_tokens(output);
    return stream_->OnEnded(attempt, ended, Now(), true);
  }
  // Up to `most` tokens from `begin` on.
  static std::vector<int32_t> Slice(const std::vector<int32_t>& ids, size_t begin, size_t most) {
    return {ids.begin() + begin, ids.begin() + std::min(ids.size(), begin + most)};
  }

  const core::Attempt first_{1, 1}, second_{1, 2};
  std::unique_ptr<RequestStream> stream_;
  std::vector<uint32_t> sent_output_;
};

TEST_F(RequestStreamTest, DeliversTokensTextAndTheEnd) {
  RequestStream& stream = Make();
  Client client(&stream);
  client.Attach();
  Assign(first_);
  stream.OnStarted(first_, 0, true);
  const auto ids = Encode(" a river runs to the sea");
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(Produce(first_, i, {ids[i]}), i == 0 ? Verdict::kComputed : Verdict::kNothing);
    client.ReadAll();
  }
  End(first_, v1::Ended::LENGTH_REACHED, ids.size());
  client.ReadAll();
  EXPECT_EQ(client.ids_, ids);
  EXPECT_EQ(client.text_, " a river runs to the sea");
  ASSERT_TRUE(client.finished_);
  EXPECT_EQ(client.finished_->reason(), v1::LENGTH);
  EXPECT_EQ(client.finished_->usage().completion_tokens(), ids.size());
  ASSERT_TRUE(client.status_);
  EXPECT_TRUE(client.status_->ok());
  EXPECT_EQ(client.accepted_, 1u);
}

TEST_F(RequestStreamTest, OpensOnceWhenDispatchedAndNeverAfterTheFirstMessageOrTheEnd) {
  RequestStream& stream = Make();
  Client client(&stream, /*slow=*/true);
  client.Attach();
  Assign(first_);
  stream.OnDispatched();
  EXPECT_EQ(client.opened_, 1u);
  stream.OnStarted(first_, 0, true);
  EXPECT_EQ(client.accepted_, 0u) << "the opening is still under way";
  client.Step();
  EXPECT_EQ(client.accepted_, 1u);
  stream.OnDispatched();
  EXPECT_EQ(client.opened_, 1u);
  Client late(&stream, /*slow=*/true);
  late.Attach();  // gets Accepted at once
  stream.OnDispatched();
  EXPECT_EQ(late.opened_, 0u);
  late.Leave();
  client.Leave();
  client.Step();
  late.Step();
  stream.OnDispatched();
  EXPECT_EQ(client.opened_, 1u);
}

TEST_F(RequestStreamTest, AcceptedNamesTheGroupOfItsOwnAttempt) {
  RequestStream& stream = Make();
  v1::AssignRequest command;
  ASSERT_TRUE(stream.OnAssigned({first_, {7}, {1, 1}, {0}, 100, "old"}, &command));
  stream.OnStarted(first_, 0, true);
  // The group is lost and the next attempt not yet taken up when a client comes.
  ASSERT_TRUE(stream.OnAssigned({second_, {8}, {1, 2}, {1}, 100, "new"}, &command));
  Client client(&stream);
  client.Attach();
  EXPECT_EQ(client.last_accepted_.attempt().counter(), 1u);
  EXPECT_EQ(client.last_accepted_.group(), "groups/7");
  EXPECT_EQ(client.last_accepted_.numerics_id(), "old");
  stream.OnStarted(second_, 0, true);
  client.ReadAll();
  EXPECT_EQ(client.last_accepted_.attempt().counter(), 2u);
  EXPECT_EQ(client.last_accepted_.group(), "groups/8");
}

TEST_F(RequestStreamTest, OnlyTheCurrentAttemptCounts) {
  RequestStream& stream = Make();
  Client client(&stream);
  client.Attach();
  Assign(first_);
  EXPECT_EQ(Produce(first_, 0, {300, 301}), Verdict::kNothing);
  client.ReadAll();
  Assign(second_);
  EXPECT_EQ(sent_output_, (std::vector<uint32_t>{300, 301})) << "what is known moves along";
  EXPECT_EQ(Produce(first_, 2, {305}), Verdict::kStale);
  EXPECT_EQ(End(first_, v1::Ended::LENGTH_REACHED, 2), Verdict::kStale);
  EXPECT_EQ(Produce(second_, 2, {302}), Verdict::kNothing);
  client.ReadAll();
  EXPECT_EQ(client.ids_, (std::vector<int32_t>{300, 301, 302}));
  EXPECT_EQ(client.accepted_, 2u);
  EXPECT_FALSE(client.status_);
}

// ---- across the seam of a migration --------------------------------------------------------------------------------

TEST_F(RequestStreamTest, WhatEndedBeforeItWasAssignedAgainIsNotComputedAgain) {
  RequestStream& stream = Make();
  Client client(&stream);
  client.Attach();
  Assign(first_);
  Produce(first_, 0, {300, 301});
  client.ReadAll();
  EXPECT_EQ(End(first_, v1::Ended::LENGTH_REACHED, 2), Verdict::kNothing);
  client.ReadAll();
  v1::AssignRequest command;
  EXPECT_FALSE(stream.OnAssigned({second_, {8}, {1, 2}, {1}, 100, "fake"}, &command));
  const core::RequestEnded ended = stream.HowEnded(second_);
  EXPECT_EQ(ended.attempt, second_);
  EXPECT_EQ(ended.how, core::EndedHow::kLengthReached);
  EXPECT_EQ(ended.output.value, 2);
  ASSERT_TRUE(client.finished_);
  EXPECT_EQ(client.accepted_, 1u);
}

TEST_F(RequestStreamTest, AFailedOneIsNotSaidToHaveFinished) {
  RequestStream& stream = Make();
  Assign(first_);
  EXPECT_EQ(Produce(first_, 3, {300}), Verdict::kSpoiled);
  v1::AssignRequest command;
  EXPECT_FALSE(stream.OnAssigned({second_, {8}, {1, 2}, {1}, 100, "fake"}, &command));
  EXPECT_EQ(stream.HowEnded(second_).how, core::EndedHow::kAborted);
}

TEST_F(RequestStreamTest, TheGroupWasLostBetweenTheLastTokenAndItsEnd) {
  RequestStream& stream = Make();
  Client client(&stream);
  client.Attach();
  Assign(first_, /*max_tokens=*/3);
  stream.OnStarted(first_, 1, true);
  Produce(first_, 0, {300, 301, 302});
  client.ReadAll();
  v1::AssignRequest command;
  EXPECT_FALSE(stream.OnAssigned({second_, {8}, {1, 2}, {1}, 3, "fake"}, &command)) << "nothing is left to compute";
  client.ReadAll();
  EXPECT_EQ(stream.HowEnded(second_).how, core::EndedHow::kLengthReached);
  ASSERT_TRUE(client.finished_);
  EXPECT_EQ(client.finished_->reason(), v1::LENGTH);
  EXPECT_EQ(client.finished_->usage().completion_tokens(), 3u);
}

TEST_F(RequestStreamTest, UsageCountsEachTokenOnceAndTheCacheOfTheFirstAttempt) {
  RequestStream& stream = Make();
  Client client(&stream);
  client.Attach();
  Assign(first_);
  stream.OnStarted(first_, 2, true);
  Produce(first_, 0, {300, 301});
  Assign(second_);
  stream.OnQueued("lost its group");
  EXPECT_EQ(stream.state(), core::RequestState::kMigrating);
  Assign(second_);
  stream.OnStarted(second_, 5, true);  // prompt and output were cached there
  Produce(second_, 2, {302, 303});
  End(second_, v1::Ended::LENGTH_REACHED, 4);
  client.ReadAll();
  ASSERT_TRUE(client.finished_);
  EXPECT_EQ(client.finished_->usage().completion_tokens(), 4u);
  EXPECT_EQ(client.finished_->usage().cached_tokens(), 2u);
  EXPECT_EQ(client.accepted_, 2u);
}

TEST_F(RequestStreamTest, AStopStringIsFoundAcrossTheSeam) {
  const auto ids = Encode(" a river runs to the sea and on");
  for (size_t seam = 1; seam < ids.size(); ++seam) {
    RequestStream& stream = Make({" to the sea"});
    Client client(&stream);
    client.Attach();
    Assign(first_);
    Verdict verdict = Verdict::kNothing;
    for (size_t i = 0; i < ids.size() && verdict == Verdict::kNothing; ++i) {
      if (i == seam) Assign(second_);
      verdict = Produce(i < seam ? first_ : second_, i, {ids[i]});
      client.ReadAll();
    }
    EXPECT_EQ(verdict, Verdict::kStopped) << seam;
    EXPECT_EQ(client.text_, " a river runs") << seam;
  }
}

TEST_F(RequestStreamTest, AHoleAChangeAndAStrangeTokenSpoilIt) {
  for (const auto& [first, id] : std::vector<std::pair<size_t, int32_t>>{{3, 300}, {0, 301}, {2, 1 << 30}}) {
    RequestStream& stream = Make();
    Client client(&stream);
    client.Attach();
    Assign(first_);
    EXPECT_EQ(Produce(first_, 0, {300, 300}), Verdict::kNothing);
    client.ReadAll();
    EXPECT_EQ(Produce(first_, first, {id}), Verdict::kSpoiled);
    client.ReadAll();
    ASSERT_TRUE(client.status_);
    EXPECT_EQ(client.status_->error_code(), grpc::StatusCode::INTERNAL);
    EXPECT_EQ(client.ids_.size(), 2u);
    EXPECT_EQ(Produce(first_, 2, {300}), Verdict::kStale);
  }
}

TEST_F(RequestStreamTest, TokensBeyondTheLimitOrMissingAtTheEndSpoilIt) {
  Make();
  Assign(first_, /*max_tokens=*/2);
  EXPECT_EQ(Produce(first_, 0, {300, 301, 302}), Verdict::kSpoiled);
  Make();
  Assign(first_);
  EXPECT_EQ(Produce(first_, 0, {300}), Verdict::kNothing);
  EXPECT_EQ(End(first_, v1::Ended::LENGTH_REACHED, 2), Verdict::kSpoiled);
}

TEST_F(RequestStreamTest, AStopTokenIsCountedAndNotSent) {
  RequestStream& stream = Make();
  Client client(&stream);
  client.Attach();
  Assign(first_);
  Produce(first_, 0, {300});
  client.ReadAll();
  v1::Ended ended;
  ended.set_how(v1::Ended::STOPPED);
  ended.set_stop_token_id(2);
  ended.set_output_tokens(2);
  EXPECT_EQ(stream.OnEnded(first_, ended, Now(), true), Verdict::kNothing);
  client.ReadAll();
  ASSERT_TRUE(client.finished_);
  EXPECT_EQ(client.finished_->stop_token_id(), 2u);
  EXPECT_EQ(client.finished_->usage().completion_tokens(), 2u);
  EXPECT_EQ(client.ids_.size(), 1u);
}

TEST_F(RequestStreamTest, AStopStringCutsTheTextWhereverTokensEnd) {
  const std::string text = " a river runs to the sea and on";
  const auto ids = Encode(text);
  for (const std::string stop : {"the", " to the sea", "s", "ver ru"}) {
    for (size_t step = 1; step <= ids.size(); ++step) {
      RequestStream& stream = Make({"never there", stop});
      Client client(&stream);
      client.Attach();
      Assign(first_);
      Verdict verdict = Verdict::kNothing;
      for (size_t i = 0; i < ids.size() && verdict == Verdict::kNothing; i += step) {
        verdict = Produce(first_, i, Slice(ids, i, step));
        client.ReadAll();
      }
      EXPECT_EQ(verdict, Verdict::kStopped) << stop;
      EXPECT_EQ(client.text_, text.substr(0, text.find(stop))) << "'" << stop << "', " << step << " tokens a step";
      ASSERT_TRUE(client.finished_);
      EXPECT_EQ(client.finished_->stop_string(), stop);
      EXPECT_EQ(client.finished_->usage().completion_tokens(), client.ids_.size());
      EXPECT_EQ(stream.output_tokens(), client.ids_.size());
    }
  }
}

TEST_F(RequestStreamTest, WhatCouldBeAStopStringComesAtTheEnd) {
  RequestStream& stream = Make({"river flows"});
  Client client(&stream);
  client.Attach();
  Assign(first_);
  const auto ids = Encode(" a river");
  Produce(first_, 0, ids);
  client.ReadAll();
  EXPECT_EQ(client.text_, " a ");
  End(first_, v1::Ended::LENGTH_REACHED, ids.size());
  client.ReadAll();
  EXPECT_EQ(client.text_, " a river");
}

TEST_F(RequestStreamTest, AnIntervalGathersChunks) {
  RequestStream& stream = Make({}, /*interval_ms=*/100);
  Client client(&stream);
  client.Attach();
  Assign(first_);
  core::Instant now = Now();
  Produce(first_, 0, {300}, now);
  client.ReadAll();
  EXPECT_EQ(client.chunks_, 1u) << "the first one does not wait";
  for (int i = 1; i < 10; ++i) Produce(first_, i, {300 + i}, now + core::Milliseconds(i)), client.ReadAll();
  EXPECT_EQ(client.chunks_, 1u);
  const core::Instant due = stream.TakeGatherDue();
  EXPECT_EQ(due.us, (now + core::Milliseconds(100)).us);
  EXPECT_EQ(stream.TakeGatherDue(), core::kNever) << "one tick was promised";
  stream.OnTick(due, core::Instant{});
  client.ReadAll();
  EXPECT_EQ(client.chunks_, 2u);
  EXPECT_EQ(client.ids_.size(), 10u);
  Produce(first_, 10, {310}, due + core::Milliseconds(1));
  End(first_, v1::Ended::LENGTH_REACHED, 11);
  client.ReadAll();
  EXPECT_EQ(client.ids_.size(), 11u) << "the end waits for nothing";
}

TEST_F(RequestStreamTest, ASilentClientHearsProgress) {
  RequestStream& stream = Make();
  Client client(&stream);
  const core::Instant now = Now();
  client.Attach();
  stream.OnTick(now, now + core::Seconds(-1));
  EXPECT_EQ(client.progress_, 0u);
  stream.OnTick(now + core::Seconds(20), now + core::Seconds(6));
  client.ReadAll();
  EXPECT_EQ(client.progress_, 1u);
}

TEST_F(RequestStreamTest, KnownOutputIsNotSentAgain) {
  const auto ids = Encode(" a river runs");
  RequestStream& stream = Make({}, 0, {static_cast<uint32_t>(ids[0]), static_cast<uint32_t>(ids[1])});
  Client client(&stream);
  client.Attach(2);
  Assign(first_);
  Produce(first_, 2, Slice(ids, 2, 100));
  End(first_, v1::Ended::LENGTH_REACHED, ids.size());
  client.ReadAll();
  EXPECT_EQ(client.ids_, Slice(ids, 2, 100));
  Client whole(&stream);
  whole.Attach(0);
  whole.ReadAll();
  EXPECT_EQ(whole.text_, " a river runs");
  Reader reader(&client);
  EXPECT_TRUE(stream.Attach(&reader, ids.size() + 1)) << "nobody has tokens that were never made";
}

TEST_F(RequestStreamTest, AClientThatLeavesIsEndedOnce) {
  RequestStream& stream = Make();
  Client client(&stream, /*slow=*/true);
  client.Attach();
  Assign(first_);
  Produce(first_, 0, {300});  // Accepted is under way
  client.Leave();
  EXPECT_FALSE(stream.HasReaders());
  EXPECT_FALSE(client.status_) << "not before the message under way came back";
  client.Step(false);
  ASSERT_TRUE(client.status_);
  client.Leave();
  stream.Fail({kNoCapacity, "late"});
}

// Random steps, repeats, stale messages, attempts, paces and places to join: all clients get the same bytes, once.
TEST_F(RequestStreamTest, ExactlyOnceWhateverHappens) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
    std::vector<int32_t> ids;
    for (size_t i = 0, n = 1 + below(200); i < n; ++i) {
      ids.push_back(static_cast<int32_t>(below(static_cast<size_t>(TinyTokenizer()->vocab_size()))));
    }
    RequestStream& stream = Make({}, below(2) * 5);
    std::deque<Client> clients;
    clients.emplace_back(&stream, true).Attach();
    uint32_t counter = 1;
    Assign({1, counter});
    size_t made = 0;
    while (made < ids.size()) {
      const core::Attempt attempt{1, counter};
      switch (below(8)) {
        case 0: {  // sent again from somewhere
          const size_t from = below(made + 1);
          ASSERT_EQ(Produce(attempt, from, Slice(ids, from, made - from)), Verdict::kNothing);
          break;
        }
        case 1:
          ASSERT_EQ(Produce({1, counter + 1}, made, {0}), Verdict::kStale);
          break;
        case 2:
          Assign({1, ++counter});
          ASSERT_EQ(sent_output_.size(), made);
          break;
        case 3:
          if (clients.size() < 4) clients.emplace_back(&stream, true).Attach(below(made + 1));
          break;
        case 4:
          stream.OnTick(Now() + core::Milliseconds(10), core::Instant{});
          break;
        default: {
          const size_t overlap = below(made + 1) / 4;
          const size_t more = 1 + below(6);
          ASSERT_EQ(Produce(attempt, made - overlap, Slice(ids, made - overlap, overlap + more)), Verdict::kNothing);
          made = std::min(ids.size(), made + more);
        }
      }
      for (Client& client : clients) {
        for (size_t i = below(3); i > 0; --i) client.Step();
      }
    }
    End({1, counter}, v1::Ended::LENGTH_REACHED, ids.size());
    clients.emplace_back(&stream, true).Attach(0);  // after the end, from the log
    for (Client& client : clients) client.SetSlow(false), client.ReadAll();
    for (Client& client : clients) {
      ASSERT_TRUE(client.status_ && client.status_->ok()) << "seed " << seed;
      ASSERT_EQ(client.ids_, Slice(ids, ids.size() - client.ids_.size(), ids.size()));
      const std::string& whole = clients.front().text_;
      ASSERT_LE(client.text_.size(), whole.size());
      ASSERT_EQ(client.text_, whole.substr(whole.size() - client.text_.size())) << "seed " << seed;
    }
    ASSERT_EQ(clients.front().ids_, ids);
    ASSERT_EQ(clients.back().text_, clients.front().text_) << "seed " << seed;
  }
}

}  // namespace
}  // namespace tandem::scheduler
