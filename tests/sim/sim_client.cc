#include "tests/sim/sim_client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "worker/engine/sampler.h"

namespace tandem::sim {
namespace {

constexpr int64_t kSlowRead = 200 * kMs;
constexpr int64_t kMostWait = 2 * kSecond;
constexpr int64_t kTenants = 3;
constexpr float kTemperature = 0.3f;
constexpr int kAlternatives = 2;

}  // namespace

SimClient::SimClient(World* world, int64_t delay_us, const core::ModelSpec& model, const Happening& request,
                     Generate generate, Resume resume)
    : world_(world),
      delay_us_(delay_us),
      context_(model.max_model_len),
      name_(request.with[5]),
      flags_(request.with[4]),
      generate_(std::move(generate)),
      resume_(std::move(resume)) {
  request_.set_model(model.name);
  request_.set_tenant(absl::StrCat("t", name_ % kTenants));
  request_.mutable_sampling()->set_temperature(flags_ & kSampled ? kTemperature : 0);
  if (!(flags_ & kUnseeded)) request_.mutable_sampling()->set_seed(static_cast<uint64_t>(name_) * 77 + 1);
  request_.mutable_stopping()->set_max_tokens(static_cast<uint32_t>(request.with[2]));
  if (flags_ & kUrgent) request_.set_priority(1);
  if (flags_ & kGathers) request_.set_chunk_interval_ms(100);
  if (flags_ & kLogprobs) request_.set_logprobs(kAlternatives);
  for (int64_t i = 0; i < request.with[1]; ++i) {
    // Shared prefixes meet in the engine's cache; the others must never.
    const uint64_t of = (flags_ & kSharedPrefix) && i < 48 ? 7 : static_cast<uint64_t>(name_) * 1000003 + 11;
    const auto token = static_cast<TokenId>(ChainOn(of, static_cast<TokenId>(i)) % (kVocab - 1));
    request_.mutable_token_ids()->add_ids(static_cast<uint32_t>(token));
  }
  if (flags_ & kStops) {
    const uint64_t draw = ChainOn(static_cast<uint64_t>(name_), 1);
    for (std::string& stop : DrawStops(request_, draw)) request_.mutable_stopping()->add_stop(std::move(stop));
  }
  if (!(flags_ & kUnseeded)) expected_ = Expect(request_);
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
  if (flags_ & kWithKey) request_.set_idempotency_key(absl::StrCat("key ", name_ / kTenants, ".", keys_));
  request_.mutable_resume_token_ids()->Assign(tokens_.begin(), tokens_.end());
  call_ = MakeCall();
  resuming_ = (flags_ & kById) && !id_.empty();
  const int64_t deadline = deadline_ == 0 ? 0 : std::max<int64_t>(1, deadline_ - world_->now());
  // The call takes its time to get there; the scheduler may be another by then, or none.
  world_->After(1 + world_->random().Below(2 * delay_us_), [self = shared_from_this(), call = call_, deadline] {
    if (self->ended_ || self->call_ != call) return;
    if (!self->resuming_) return self->generate_(call, self->request_, deadline);
    v1::ResumeRequest resume;
    resume.set_tenant(self->request_.tenant());
    resume.set_request_id(self->id_);
    resume.set_next_index(self->tokens_.size());
    self->resume_(call, resume);
  });
}

std::shared_ptr<SimCall> SimClient::MakeCall() {
  SimCall::ClientEnd end;
  auto mine = std::make_shared<const SimCall*>(nullptr);
  end.message = [self = shared_from_this(), mine](const v1::GenerateResponse& message) {
    if (!self->ended_ && self->call_.get() == *mine) self->OnMessage(message);
  };
  end.over = [self = shared_from_this(), mine](const grpc::Status& status) {
    if (!self->ended_ && self->call_.get() == *mine) self->OnOver(status);
  };
  auto call = std::make_shared<SimCall>(world_, delay_us_, flags_ & kSlowReader ? kSlowRead : 50, std::move(end));
  *mine = call.get();
  return call;
}

void SimClient::Break() {
  if (ended_ || !call_) return;
  world_->Count("client breaks");
  if (flags_ & kById && !id_.empty()) SpyOnIt();
  call_->Leave();
  call_ = nullptr;
  TryAgain();
}

// Another tenant knows the id of the request, and must get nothing for it.
void SimClient::SpyOnIt() {
  SimCall::ClientEnd end;
  end.message = [self = shared_from_this()](const v1::GenerateResponse&) {
    self->Broken("another tenant reads its answer");
  };
  end.over = [self = shared_from_this()](const grpc::Status& status) {
    if (status.error_code() == grpc::StatusCode::NOT_FOUND) self->world_->Count("strangers refused");
  };
  auto call = std::make_shared<SimCall>(world_, delay_us_, 50, std::move(end));
  v1::ResumeRequest resume;
  resume.set_tenant("stranger");
  resume.set_request_id(id_);
  world_->After(1, [self = shared_from_this(), call, resume] { self->resume_(call, resume); });
}

void SimClient::Stall(int64_t us) {
  if (!ended_ && call_) call_->Stall(us);
}

void SimClient::Cancel() {
  if (ended_) return;
  if (call_) call_->Leave();
  End("cancelled");
}

void SimClient::OnMessage(const v1::GenerateResponse& message) {
  if (message.has_accepted()) {
    OnAccepted(message.accepted());
  } else if (message.has_chunk()) {
    OnChunk(message.chunk());
  } else if (message.has_finished()) {
    OnFinished(message.finished());
  }
}

void SimClient::OnAccepted(const v1::Accepted& accepted) {
  if (std::exchange(resuming_, false)) world_->Count("resumed by id");
  id_ = accepted.request_id();
  const v1::SamplingParams& sampling = request_.sampling();
  if (sampling.has_seed() && accepted.seed() != sampling.seed()) {
    return Broken(absl::StrCat("accepted with seed ", accepted.seed(), ", asked for with ", sampling.seed()));
  }
  if (sampling.has_seed()) return;
  request_.mutable_sampling()->set_seed(accepted.seed());
  expected_ = Expect(request_);
}

void SimClient::OnChunk(const v1::Chunk& chunk) {
  if (chunk.offset() != tokens_.size()) {
    return Broken(absl::StrCat("a chunk begins at index ", chunk.offset(), " after ", tokens_.size(), " tokens"));
  }
  if ((flags_ & kLogprobs) && chunk.logprobs_size() != chunk.token_ids_size()) {
    return Broken(absl::StrCat(chunk.token_ids_size(), " tokens with ", chunk.logprobs_size(), " logprobs"));
  }
  for (int i = 0; i < chunk.token_ids_size(); ++i) {
    const size_t index = tokens_.size();
    if (index >= expected_.tokens.size()) {
      return Broken(absl::StrCat("index ", index, " is token ", chunk.token_ids(i), ", after the end"));
    }
    if (chunk.token_ids(i) != expected_.tokens[index]) {
      return Broken(absl::StrCat("index ", index, " is token ", chunk.token_ids(i), ", the chain says ",
                                 expected_.tokens[index]));
    }
    if (flags_ & kLogprobs) CheckLogprobs(chunk.logprobs(i), index);
    tokens_.push_back(chunk.token_ids(i));
    world_->Count("tokens");
  }
  text_ += chunk.text();
  if (!absl::StartsWith(expected_.text, text_)) {
    return Broken(absl::StrCat("the text is \"", text_, "\", and should be \"", expected_.text, "\""));
  }
}

void SimClient::CheckLogprobs(const v1::PositionLogprobs& got, size_t index) {
  const worker::PositionLogprobs wanted = worker::ComputeLogprobs(
      LogitsAfter(expected_.chains[index]), static_cast<TokenId>(expected_.tokens[index]), kAlternatives);
  bool same = got.chosen().token_id() == expected_.tokens[index] && got.chosen().logprob() == wanted.chosen.logprob &&
              got.top_size() == kAlternatives;
  for (int i = 0; same && i < got.top_size(); ++i) {
    same = got.top(i).token_id() == static_cast<uint32_t>(wanted.top[i].token) &&
           got.top(i).logprob() == wanted.top[i].logprob;
  }
  if (!same) Broken(absl::StrCat("index ", index, " has logprobs of another position: ", got.ShortDebugString()));
  world_->Count("logprobs");
}

void SimClient::OnFinished(const v1::Finished& finished) {
  const bool stop = finished.reason() == v1::STOP;
  const size_t whole = tokens_.size() + static_cast<size_t>(request_.token_ids().ids_size());
  const bool whole_answer = tokens_.size() == expected_.tokens.size() && stop == expected_.Stops();
  if (!whole_answer && (stop || whole < static_cast<size_t>(context_))) {
    return Broken(absl::StrCat("finished by ", v1::FinishReason_Name(finished.reason()), " after ", tokens_.size(),
                               " of ", expected_.tokens.size(), " tokens"));
  }
  if (stop && finished.stop_string() != expected_.stop_string) {
    return Broken(
        absl::StrCat("stopped by \"", finished.stop_string(), "\" instead of \"", expected_.stop_string, "\""));
  }
  if (whole_answer && text_ != expected_.text) {
    return Broken(absl::StrCat("the text ends as \"", text_, "\", and should be \"", expected_.text, "\""));
  }
  if (finished.usage().completion_tokens() != tokens_.size() + (stop && expected_.ends_by_token ? 1 : 0)) {
    return Broken(
        absl::StrCat("usage counts ", finished.usage().completion_tokens(), " of ", tokens_.size(), " tokens"));
  }
  if (!expected_.stop_string.empty()) world_->Count("stopped by a string");
  if (flags_ & kSampled) world_->Count("sampled");
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
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      ++keys_;
      return TryAgain();
    case grpc::StatusCode::NOT_FOUND:
      if (!std::exchange(resuming_, false)) return End("refused");  // its model was undeployed
      id_.clear();
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
