#include "tests/sim/sim_client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tandem::sim {
namespace {

constexpr int64_t kSlowRead = 200 * kMs;
constexpr int64_t kMostWait = 2 * kSecond;

}  // namespace

SimClient::SimClient(World* world, int64_t delay_us, const core::ModelSpec& model, const Happening& request,
                     Generate generate)
    : world_(world),
      delay_us_(delay_us),
      context_(model.max_model_len),
      name_(request.with[5]),
      flags_(request.with[4]),
      generate_(std::move(generate)) {
  request_.set_model(model.name);
  request_.set_tenant("t");
  request_.mutable_sampling()->set_temperature(0);
  request_.mutable_sampling()->set_seed(1);
  request_.mutable_stopping()->set_max_tokens(static_cast<uint32_t>(request.with[2]));
  if (flags_ & kUrgent) request_.set_priority(1);
  if (flags_ & kGathers) request_.set_chunk_interval_ms(100);
  for (int64_t i = 0; i < request.with[1]; ++i) {
    // Shared prefixes meet in the engine's cache; the others must never.
    const uint64_t of = (flags_ & kSharedPrefix) && i < 48 ? 7 : static_cast<uint64_t>(name_) * 1000003 + 11;
    const auto token = static_cast<TokenId>(ChainOn(of, static_cast<TokenId>(i)) % (kVocab - 1));
    request_.mutable_token_ids()->add_ids(static_cast<uint32_t>(token));
    chain_ = ChainOn(chain_, token);
  }
  if (request.with[3] > 0) deadline_ = world_->now() + request.with[3] * kMs;
}

void SimClient::Start() {
  world_->Count("requests");
  if (deadline_ > 0) {
    world_->After(deadline_ - world_->now(), [self = shared_from_this()] {
      if (self->ended_) return;
      if (self->call_) self->call_->Leave();
      self->End("ended by deadline");
    });
  }
  Call();
}

void SimClient::Call() {
  if (ended_) return;
  // It may have all there is, and not have heard that it is the end.
  if (tokens_.size() == request_.stopping().max_tokens()) return End("finished");
  ++tries_;
  if (tries_ > 1 && !tokens_.empty()) world_->Count("resumes");
  if (flags_ & kWithKey) request_.set_idempotency_key(absl::StrCat("key ", name_, ".", keys_));
  request_.mutable_resume_token_ids()->Assign(tokens_.begin(), tokens_.end());
  SimCall::ClientEnd end;
  auto mine = std::make_shared<const SimCall*>(nullptr);
  end.message = [self = shared_from_this(), mine](const v1::GenerateResponse& message) {
    if (!self->ended_ && self->call_.get() == *mine) self->OnMessage(message);
  };
  end.over = [self = shared_from_this(), mine](const grpc::Status& status) {
    if (!self->ended_ && self->call_.get() == *mine) self->OnOver(status);
  };
  call_ = std::make_shared<SimCall>(world_, delay_us_, flags_ & kSlowReader ? kSlowRead : 50, std::move(end));
  *mine = call_.get();
  const int64_t deadline = deadline_ == 0 ? 0 : std::max<int64_t>(1, deadline_ - world_->now());
  // The call takes its time to get there; the scheduler may be another by then, or none.
  world_->After(1 + world_->random().Below(2 * delay_us_), [self = shared_from_this(), call = call_, deadline] {
    if (!self->ended_ && self->call_ == call) self->generate_(call, self->request_, deadline);
  });
}

void SimClient::Break() {
  if (ended_ || !call_) return;
  world_->Count("client breaks");
  call_->Leave();
  call_ = nullptr;
  TryAgain();
}

void SimClient::Cancel() {
  if (ended_) return;
  if (call_) call_->Leave();
  End("cancelled");
}

void SimClient::OnMessage(const v1::GenerateResponse& message) {
  if (message.has_chunk()) {
    const v1::Chunk& chunk = message.chunk();
    if (chunk.offset() != tokens_.size()) {
      return Broken(absl::StrCat("a chunk begins at index ", chunk.offset(), " after ", tokens_.size(), " tokens"));
    }
    for (uint32_t token : chunk.token_ids()) OnToken(token);
  } else if (message.has_finished()) {
    OnFinished(message.finished());
  }
}

void SimClient::OnToken(uint32_t token) {
  const TokenId expected = NextToken(chain_);
  if (static_cast<TokenId>(token) != expected || expected == kEos) {
    return Broken(absl::StrCat("index ", tokens_.size(), " is token ", token, ", the chain says ", expected));
  }
  if (tokens_.size() >= request_.stopping().max_tokens()) {
    return Broken(absl::StrCat("token ", tokens_.size(), " is beyond max_tokens"));
  }
  tokens_.push_back(token);
  chain_ = ChainOn(chain_, static_cast<TokenId>(token));
  world_->Count("tokens");
}

void SimClient::OnFinished(const v1::Finished& finished) {
  const size_t whole = tokens_.size() + static_cast<size_t>(request_.token_ids().ids_size());
  const bool stop = finished.reason() == v1::STOP;
  const bool at_end = tokens_.size() == request_.stopping().max_tokens() || whole >= static_cast<size_t>(context_);
  if (stop ? NextToken(chain_) != kEos : !at_end) {
    return Broken(absl::StrCat("finished by ", v1::FinishReason_Name(finished.reason()), " after ", tokens_.size(),
                               " of ", request_.stopping().max_tokens(), " tokens"));
  }
  if (finished.usage().completion_tokens() != tokens_.size() + (stop ? 1 : 0)) {
    return Broken(
        absl::StrCat("usage counts ", finished.usage().completion_tokens(), " of ", tokens_.size(), " tokens"));
  }
  End("finished");
}

void SimClient::OnOver(const grpc::Status& status) {
  call_ = nullptr;
  const std::string& why = status.error_message();
  if (status.ok()) return Broken("the call ended without Finished");
  last_error_ = why;
  switch (status.error_code()) {
    case grpc::StatusCode::INTERNAL:
      if (absl::StrContains(why, "not whole")) return Broken(why);
      [[fallthrough]];
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::CANCELLED:
      ++keys_;
      return TryAgain();
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      if (deadline_ == 0) return Broken(absl::StrCat("a deadline that it never set: ", why));
      return End("ended by deadline");
    case grpc::StatusCode::INVALID_ARGUMENT:
      // With a pool smaller than the context a prompt can be too long for it; and an answer of which only the end
      // mark is missing has nothing left to compute.
      return End(absl::StrContains(why, "KV cache") || absl::StrContains(why, "nothing is") ? "refused" : "invalid");
    case grpc::StatusCode::FAILED_PRECONDITION:
      return End("refused");
    default:
      return Broken(
          absl::StrCat("an answer that no client expects: ", static_cast<int>(status.error_code()), " ", why));
  }
}

void SimClient::TryAgain() {
  world_->Count("tries after the first");
  world_->After(wait_us_ / 2 + world_->random().Below(wait_us_), [self = shared_from_this()] {
    if (!self->ended_ && !self->call_) self->Call();
  });
  wait_us_ = std::min(wait_us_ * 2, kMostWait);
}

void SimClient::End(const char* how) {
  ended_ = true;
  call_ = nullptr;
  world_->Count(how);
  world_->Trace(absl::StrCat("client ", name_, " ", how, " with ", tokens_.size(), " tokens"));
}

void SimClient::Broken(const std::string& what) { world_->Fail(absl::StrCat("client ", name_, ": ", what)); }

}  // namespace tandem::sim
