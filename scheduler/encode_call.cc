#include "scheduler/encode_call.h"

#include <grpcpp/server_context.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/clock.h"
#include "scheduler/ids.h"
#include "scheduler/validate_request.h"

namespace tandem::scheduler {
namespace {

// Of one call in the core at a time: enough to fill an engine's step, few enough to leave the queue to others.
constexpr size_t kMostInFlight = 48;

}  // namespace

// One question in the core: the reader of its stream. Its last call makes the call forget it, so each holds it.
class EncodeCall::Seat final : public ClientSink, public std::enable_shared_from_this<Seat> {
 public:
  Seat(std::shared_ptr<EncodeCall> call, size_t index, std::shared_ptr<RequestStream> stream)
      : call_(std::move(call)), index_(index), stream_(std::move(stream)), reader_(this) {}

  // May end before it returns. REQUIRES: the caller holds the seat.
  void Attach() {
    if (const auto error = stream_->Attach(&reader_, 0)) End(*error);
  }
  void Leave() { stream_->Detach(&reader_); }

  void Open() override { Sent(); }
  void Send(const v1::GenerateResponse&, bool) override { Sent(); }
  void SendLast(const v1::GenerateResponse&) override {
    const auto self = shared_from_this();
    call_->OnAnswered(this, stream_->TakeVector());
  }
  void End(const Error& error) override {
    const auto self = shared_from_this();
    call_->OnFailed(this, error);
  }

  size_t index() const { return index_; }
  const std::shared_ptr<RequestStream>& stream() const { return stream_; }

 private:
  // Nothing but the end is of interest, and nobody is slow.
  void Sent() {
    const auto self = shared_from_this();
    stream_->OnSent(&reader_, true);
  }

  const std::shared_ptr<EncodeCall> call_;
  const size_t index_;
  const std::shared_ptr<RequestStream> stream_;
  Reader reader_;
};

EncodeCall::EncodeCall(const Parts& parts, RefusedCall asked, ServedModelPtr model, int32_t priority)
    : parts_(parts), model_(std::move(model)), priority_(priority), asked_(std::move(asked)), arrived_(Now()) {}

void EncodeCall::Refuse(const Error& error) {
  parts_.log->Refused(asked_, error, Now());
  Finish(ToGrpc(error));
}

void EncodeCall::Begin(const grpc::CallbackServerContext& context, size_t bytes) {
  const auto deadline = context.deadline();
  if (deadline != std::chrono::system_clock::time_point::max()) {
    const auto left = deadline - std::chrono::system_clock::now();
    deadline_ = core::Duration{std::chrono::duration_cast<std::chrono::microseconds>(left).count()};
    if (deadline_->us <= 0) return Refuse({kDeadlineExceeded, "the call's deadline had passed when it arrived"});
  }
  const bool taken = parts_.pool->Submit(bytes, [this, self = shared_from_this()] { Ask(); });
  if (!taken) Refuse(TooMuchAtHand());
}

void EncodeCall::Ask() {
  std::vector<Question> questions;
  if (const auto error = Prepare(&questions)) return Refuse(*error);
  questions_ = std::move(questions);
  {
    absl::MutexLock lock(&mu_);
    vectors_.resize(questions_.size());
    asking_ = true;
  }
  EnterMore();
}

std::optional<Error> EncodeCall::Unwanted() const {
  if (deadline_ && (Now() - arrived_).us >= deadline_->us) {
    return Error{kDeadlineExceeded, "the call's deadline passed before its inputs were tokenized"};
  }
  absl::MutexLock lock(&mu_);
  if (failure_) return ClientLeft();
  return std::nullopt;
}

tokenizer::PairOptions EncodeCall::InputOptions(const std::optional<uint32_t>& truncate) const {
  tokenizer::PairOptions options{.max_tokens = model_->encoder->max_tokens, .truncate = truncate.has_value()};
  if (truncate && *truncate > 0) options.max_tokens = std::min<size_t>(options.max_tokens, *truncate);
  return options;
}

Error EncodeCall::Unreadable(const absl::Status& status, const tokenizer::PairOptions& options,
                             const std::string& field) const {
  if (!absl::IsOutOfRange(status)) return {kInvalidParameter, absl::StrCat(field, ": ", std::string(status.message()))};
  return {kContextLengthExceeded,
          absl::StrFormat("%s has more than %d tokens, which is what model %s takes; shorten it, or set "
                          "truncate_tokens",
                          field, options.max_tokens, model_->spec.name),
          {},
          {{"field", field}, {"max_model_len", absl::StrCat(options.max_tokens)}}};
}

std::optional<Error> EncodeCall::Take(absl::StatusOr<tokenizer::EncoderInput> input,
                                      const tokenizer::PairOptions& options, const std::string& field,
                                      Question* question) const {
  if (!input.ok()) return Unreadable(input.status(), options, field);
  if (input->ids.empty())
    return Error{kInvalidParameter, absl::StrCat(field, " has no tokens"), {}, {{"field", field}}};
  question->ids.assign(input->ids.begin(), input->ids.end());
  question->field = field;
  question->second_at = input->second_at;
  question->truncated = input->truncated;
  return std::nullopt;
}

// ---- in and out of the core -----------------------------------------------------------------------------------------

// An answer may come while its question is being entered, on this thread or another: whoever is here already goes on.
void EncodeCall::EnterMore() {
  {
    absl::MutexLock lock(&mu_);
    if (entering_) return;
    entering_ = true;
  }
  size_t index;
  while (TakeNext(&index)) Enter(index);
  // TakeNext has let go of `entering_`, and seen whether this was the end.
}

bool EncodeCall::TakeNext(size_t* index) {
  std::optional<grpc::Status> end;
  {
    absl::MutexLock lock(&mu_);
    if (!failure_ && in_flight_ < kMostInFlight) {
      if (!again_.empty() && rooms_ > 0) {
        --rooms_;
        *index = again_.front();
        again_.pop_front();
        ++in_flight_;
        return true;
      }
      if (again_.empty() && next_ < questions_.size()) {
        *index = next_++;
        ++in_flight_;
        return true;
      }
    }
    entering_ = false;
    if (in_flight_ > 0 || over_ || !asking_) return false;
    over_ = true;
    end = failure_ ? ToGrpc(*failure_) : grpc::Status::OK;
  }
  if (end->ok()) {
    absl::MutexLock lock(&mu_);
    Respond(questions_, vectors_);
  }
  Finish(*end);
  return false;
}

void EncodeCall::Enter(size_t index) {
  const Question& question = questions_[index];
  v1::AssignRequest payload;
  payload.mutable_prompt_ids()->Add(question.ids.begin(), question.ids.end());
  payload.set_second_text_at(static_cast<uint32_t>(question.second_at));
  if (question.image != nullptr) payload.set_image(*question.image);
  payload.mutable_sampling()->set_n(1);
  payload.mutable_sampling()->set_repetition_penalty(1);
  payload.mutable_sampling()->set_top_p(1);
  payload.set_priority(priority_);
  payload.set_tenant(asked_.tenant);

  core::RequestArrived event;
  event.request = RandomRequestId();
  event.model = model_->spec.name;
  event.prompt = {static_cast<int64_t>(question.ids.size())};
  event.max_tokens = core::Tokens{1};  // the vector
  if (deadline_) event.deadline = core::Duration{deadline_->us - (Now() - arrived_).us};
  event.priority = priority_;
  event.tenant = asked_.tenant;
  event.caller_id = asked_.caller.id;
  event.trace_id = asked_.caller.trace;
  event.bytes = {static_cast<int64_t>(payload.SpaceUsedLong())};

  RequestStream::Facts facts;
  facts.id = event.request;
  facts.model = model_->spec.name;
  facts.model_revision = model_->spec.revision;
  facts.tenant = asked_.tenant;
  facts.caller = asked_.caller;
  facts.flow = parts_.metrics->FlowOf(facts.model, facts.tenant);
  facts.prompt_tokens = static_cast<uint32_t>(question.ids.size());
  facts.vocab_size = model_->limits.vocab_size;
  facts.arrived = arrived_;
  facts.tokenizer = model_->tokenizer;
  facts.input = question.field;
  facts.vector_bytes = model_->encoder->vector_size * sizeof(float);
  auto stream = std::make_shared<RequestStream>(std::move(facts), std::move(payload));
  const auto seat = std::make_shared<Seat>(shared_from_this(), index, stream);
  {
    absl::MutexLock lock(&mu_);
    seats_.push_back(seat);
  }
  parts_.store->AddOrFind(stream);
  if (!parts_.core->TryPost(std::move(event))) {
    parts_.store->Remove(*stream);
    const Error error = TooMuchAtHand();
    parts_.log->Refused(asked_, error, Now());
    seat->End(error);
    return;
  }
  seat->Attach();
  // A failure that came in between found no seat to leave.
  bool unwanted;
  {
    absl::MutexLock lock(&mu_);
    unwanted = failure_.has_value();
  }
  if (unwanted) seat->Leave();
}

void EncodeCall::OnAnswered(Seat* seat, std::string vector) {
  std::vector<float> values(vector.size() / sizeof(float));
  std::memcpy(values.data(), vector.data(), values.size() * sizeof(float));
  {
    absl::MutexLock lock(&mu_);
    vectors_[seat->index()] = std::move(values);
    if (!again_.empty()) ++rooms_;
  }
  Settle(seat);
}

void EncodeCall::OnFailed(Seat* seat, const Error& error) {
  parts_.router->ClientLeft(seat->stream());  // of one that was left: nobody waits for it any more
  bool again = false;
  {
    absl::MutexLock lock(&mu_);
    // A full queue is this call's own doing where others of it are in there: they make room.
    again = !failure_ && in_flight_ > 1 && error.kind == kQueueFull;
    if (again) again_.push_back(seat->index());
  }
  if (!again) Fail(error);
  Settle(seat);
}

void EncodeCall::Settle(Seat* seat) {
  const auto self = shared_from_this();  // the seat may be what holds the call
  {
    absl::MutexLock lock(&mu_);
    const auto it = std::find_if(seats_.begin(), seats_.end(), [&](const auto& held) { return held.get() == seat; });
    if (it != seats_.end()) seats_.erase(it);
    --in_flight_;
  }
  EnterMore();
}

// The first reason counts. Whatever is in the core is left.
void EncodeCall::Fail(const Error& error) {
  std::vector<std::shared_ptr<Seat>> seats;
  {
    absl::MutexLock lock(&mu_);
    if (failure_) return;
    failure_ = error;
    seats = seats_;
  }
  for (const auto& seat : seats) seat->Leave();
}

void EncodeCall::OnCancel() {
  const auto self = shared_from_this();
  Fail(ClientLeft());
  EnterMore();  // where nothing is in the core, the end is here
}

}  // namespace tandem::scheduler
