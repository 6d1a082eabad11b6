#include "scheduler/request_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/clock.h"
#include "scheduler/core/words.h"
#include "scheduler/ids.h"
#include "scheduler/request_metrics.h"
#include "scheduler/translate.h"

namespace tandem::scheduler {
namespace {

constexpr size_t kMostReasonBytes = 300;

}  // namespace

RequestStream::RequestStream(Facts facts, v1::AssignRequest payload)
    : facts_(std::move(facts)),
      payload_(std::move(payload)),
      log_({facts_.tokenizer, facts_.stop, facts_.continues_text, facts_.logprobs, facts_.vocab_size}) {
  absl::MutexLock lock(&mu_);
  const std::optional<size_t> stop = log_.Recall(facts_.known_output);
  released_ = log_.size();
  if (!stop) return;
  // The client has all of it, and did not hear that it was the end.
  assigned_at_ = facts_.arrived;
  finished_.set_stop_string(facts_.stop[*stop]);
  Finish(v1::STOP, facts_.arrived);
}

bool RequestStream::Current(core::Attempt attempt) const {
  return !ended_ && assignment_.has_value() && assignment_->attempt == attempt;
}

void RequestStream::MarkStarted() {
  if (started_.attempt != assignment_->attempt) started_ = *assignment_;
}

// ---- from the core's thread ---------------------------------------------------------------------------------------

void RequestStream::OnQueued(const std::string& why) {
  Wakes wakes;
  {
    absl::MutexLock lock(&mu_);
    state_ = started_.attempt.counter != 0 ? core::RequestState::kMigrating : core::RequestState::kQueued;
    waits_for_ = why;
    for (Reader* reader : readers_) reader->progress_due = true;
    PumpAll(Now(), &wakes);
  }
  Run(wakes);
}

bool RequestStream::OnAssigned(const Assignment& assignment, v1::AssignRequest* command) {
  Wakes wakes;
  const bool wanted = Assign(assignment, command, &wakes);
  Run(wakes);
  return wanted;
}

bool RequestStream::Assign(const Assignment& assignment, v1::AssignRequest* command, Wakes* wakes) {
  absl::MutexLock lock(&mu_);
  if (ended_) return false;
  if (started_.attempt.counter != 0 && log_.size() >= assignment.max_tokens) {
    // The group was lost between the last token and its end: nothing is left to compute.
    const core::Instant now = Now();
    log_.Finish();
    Finish(v1::LENGTH, now);
    PumpAll(now, wakes);
    return false;
  }
  if (!assignment_.has_value()) {
    assigned_at_ = Now();
    if (facts_.flow != nullptr) facts_.flow->Assigned(assigned_at_ - facts_.arrived);
  }
  assignment_ = assignment;
  state_ = core::RequestState::kAssigned;
  waits_for_.clear();
  *command = payload_;
  command->mutable_key()->set_request_id(ToBytes(facts_.id.hi, facts_.id.lo));
  SetEpoch(assignment.attempt.leader, assignment.attempt.counter, command->mutable_key()->mutable_attempt());
  command->mutable_group()->set_group_id(assignment.group.value);
  SetEpoch(assignment.epoch.leader, assignment.epoch.counter, command->mutable_group()->mutable_epoch());
  log_.Copy(command);
  // What another scheduler would need to answer for it.
  command->set_model(facts_.model);
  command->set_model_revision(facts_.model_revision);
  command->set_chunk_interval_ms(static_cast<uint32_t>(facts_.chunk_interval.us / 1000));
  command->set_fingerprint(facts_.fingerprint);
  command->set_caller_id(facts_.caller.id);
  command->set_trace_id(facts_.caller.trace);
  command->set_age_ms(static_cast<uint64_t>(std::max<int64_t>(0, (Now() - facts_.arrived).us) / 1000));
  command->set_max_tokens(assignment.max_tokens);
  return true;
}

void RequestStream::OnDispatched() {
  Wakes wakes;
  {
    absl::MutexLock lock(&mu_);
    for (Reader* reader : readers_) {
      if (reader->opened || reader->busy || reader->leaving) continue;
      reader->opened = reader->busy = true;
      wakes.push_back({reader->sink, reader, Wake::kOpen, {}});
    }
  }
  Run(wakes);
}

void RequestStream::Fail(Error error) {
  Wakes wakes;
  {
    absl::MutexLock lock(&mu_);
    if (ended_) return;
    ended_ = true;
    state_ = error.kind == kCancelled ? core::RequestState::kCancelled : core::RequestState::kFailed;
    failure_ = std::move(error);
    released_ = log_.size();
    PumpAll(Now(), &wakes);
  }
  Run(wakes);
}

void RequestStream::Release() {
  absl::MutexLock lock(&mu_);
  payload_ = v1::AssignRequest();
}

// ---- from an engine of an earlier scheduler -----------------------------------------------------------------------

void RequestStream::OnFound(const Assignment& assignment) {
  absl::MutexLock lock(&mu_);
  if (ended_) return;
  if (!assignment_.has_value()) assigned_at_ = facts_.arrived;
  assignment_ = assignment;
  state_ = core::RequestState::kAssigned;
  waits_for_.clear();
}

// ---- from rank 0 --------------------------------------------------------------------------------------------------

RequestStream::Verdict RequestStream::OnStarted(core::Attempt attempt, uint32_t cached_tokens, bool flush) {
  Wakes wakes;
  {
    absl::MutexLock lock(&mu_);
    if (!Current(attempt)) return Verdict::kStale;
    // What was cached the first time: after a preemption or a move, prompt and output may be found in the cache.
    if (started_.attempt.counter == 0) cached_tokens_ = cached_tokens;
    MarkStarted();
    computing_ = true;
    state_ = core::RequestState::kRunning;
    if (flush) PumpAll(Now(), &wakes);
  }
  Run(wakes);
  return Verdict::kNothing;
}

RequestStream::Verdict RequestStream::OnProduced(core::Attempt attempt, const v1::Produced& produced, core::Instant now,
                                                 bool flush) {
  Wakes wakes;
  Verdict verdict;
  {
    absl::MutexLock lock(&mu_);
    if (!Current(attempt)) return Verdict::kStale;
    MarkStarted();
    verdict = Append(produced, now);
    if (verdict == Verdict::kNothing && std::exchange(computing_, false)) verdict = Verdict::kComputed;
    if (facts_.chunk_interval.us == 0 || ended_ || released_at_ + facts_.chunk_interval <= now) {
      released_ = log_.size();
      released_at_ = now;
    }
    if (flush || ended_) PumpAll(now, &wakes);
  }
  Run(wakes);
  return verdict;
}

RequestStream::Verdict RequestStream::Append(const v1::Produced& produced, core::Instant now) {
  const size_t before = log_.size();
  const absl::StatusOr<std::optional<size_t>> stop = log_.Append(produced, assignment_->max_tokens);
  if (log_.size() > before) CountNew(log_.size() - before, now);
  if (!stop.ok()) return Spoil(std::string(stop.status().message()));
  if (!*stop) return Verdict::kNothing;
  finished_.set_stop_string(facts_.stop[**stop]);
  Finish(v1::STOP, now);
  return Verdict::kStopped;
}

void RequestStream::CountNew(size_t tokens, core::Instant now) {
  // Those that are told again of an earlier scheduler's are counted, and their time has passed.
  const size_t before = log_.size() - tokens;
  if (log_.size() <= facts_.counted_output) return;
  if (facts_.flow != nullptr) facts_.flow->Tokens(log_.size() - std::max(before, facts_.counted_output));
  if (first_token_at_.us != 0 || facts_.counted_output > 0) return;
  first_token_at_ = now;
  if (facts_.flow == nullptr) return;
  facts_.flow->FirstToken(now - facts_.arrived, assigned_at_ - facts_.arrived, facts_.prompt_tokens, cached_tokens_);
}

RequestStream::Verdict RequestStream::OnPreempted(core::Attempt attempt, bool flush) {
  Wakes wakes;
  {
    absl::MutexLock lock(&mu_);
    if (!Current(attempt)) return Verdict::kStale;
    ++preemptions_;
    if (facts_.flow != nullptr) facts_.flow->Preempted();
    state_ = core::RequestState::kAssigned;
    if (flush) PumpAll(Now(), &wakes);
  }
  Run(wakes);
  return Verdict::kNothing;
}

RequestStream::Verdict RequestStream::OnEnded(core::Attempt attempt, const v1::Ended& ended, core::Instant now,
                                              bool flush) {
  Wakes wakes;
  Verdict verdict = Verdict::kNothing;
  {
    absl::MutexLock lock(&mu_);
    if (!Current(attempt)) return Verdict::kStale;
    const bool finished = ended.how() == v1::Ended::STOPPED || ended.how() == v1::Ended::LENGTH_REACHED;
    if (finished && facts_.vector_bytes > 0 && !ended.unreadable().empty()) {
      ended_ = true;
      state_ = core::RequestState::kFailed;
      failure_ = Error{kInvalidParameter,
                       absl::StrCat(facts_.input, ": ", ended.unreadable().substr(0, kMostReasonBytes)),
                       {},
                       {{"field", facts_.input}}};
    } else if (finished && facts_.vector_bytes > 0) {
      if (ended.vector().size() != facts_.vector_bytes) {
        verdict = Spoil(
            absl::StrFormat("a vector of %d bytes came, %d were expected", ended.vector().size(), facts_.vector_bytes));
      } else {
        MarkStarted();
        vector_ = ended.vector();
        Finish(v1::STOP, now);
      }
    } else if (finished) {
      // A stop token is counted and not sent.
      const size_t sent = ended.output_tokens() - std::min<uint32_t>(ended.has_stop_token_id(), ended.output_tokens());
      if (sent > log_.size()) {
        verdict = Spoil(absl::StrFormat("tokens %d to %d are missing at the end", log_.size(), sent - 1));
      } else {
        MarkStarted();
        if (ended.has_stop_token_id()) finished_.set_stop_token_id(ended.stop_token_id());
        log_.Finish();
        Finish(ended.how() == v1::Ended::STOPPED ? v1::STOP : v1::LENGTH, now);
      }
    }
    // Otherwise the core decides what becomes of the request.
    if (flush || ended_) PumpAll(now, &wakes);
  }
  Run(wakes);
  return verdict;
}

void RequestStream::Finish(v1::FinishReason reason, core::Instant now) {
  ended_ = true;
  state_ = core::RequestState::kFinished;
  released_ = log_.size();
  finished_.set_reason(reason);
  auto& usage = *finished_.mutable_usage();
  usage.set_prompt_tokens(facts_.prompt_tokens);
  usage.set_completion_tokens(log_.size() + (finished_.has_stop_token_id() ? 1 : 0));
  usage.set_cached_tokens(cached_tokens_);
  auto& timings = *finished_.mutable_timings();
  timings.set_queue_us((assigned_at_ - facts_.arrived).us);
  timings.set_first_token_us(first_token_at_.us == 0 ? 0 : (first_token_at_ - facts_.arrived).us);
  timings.set_total_us((now - facts_.arrived).us);
  timings.set_preemptions(preemptions_);
}

RequestStream::Verdict RequestStream::Spoil(const std::string& why) {
  ended_ = true;
  state_ = core::RequestState::kFailed;
  released_ = log_.size();
  failure_ = Error{kEngineFault, absl::StrCat("the engine's answer is not whole: ", why)};
  return Verdict::kSpoiled;
}

// ---- from clients -------------------------------------------------------------------------------------------------

std::optional<Error> RequestStream::Attach(Reader* reader, size_t next) {
  Wakes wakes;
  {
    absl::MutexLock lock(&mu_);
    if (abandoned()) {
      return Error{kResumeUnknown, absl::StrCat("request ", ToHex(facts_.id),
                                                " is being cancelled, since nobody read it for a while; send Generate "
                                                "again with resume_token_ids")};
    }
    if (next > log_.size() && (ended_ || facts_.origin == Origin::kClient)) {
      return Error{kInvalidParameter, absl::StrFormat("next_index is %d; request %s has %d tokens so far", next,
                                                      ToHex(facts_.id), log_.size())};
    }
    reader->next = next;
    reader->last_sent = Now();
    readers_.push_back(reader);
    Pump(reader, reader->last_sent, &wakes);
  }
  Run(wakes);
  return std::nullopt;
}

void RequestStream::OnSent(Reader* reader, bool ok) {
  Wakes wakes;
  {
    absl::MutexLock lock(&mu_);
    reader->busy = false;
    if (!ok) reader->leaving = true;
    Pump(reader, Now(), &wakes);
  }
  Run(wakes);
}

void RequestStream::Detach(Reader* reader, std::optional<Error> why) {
  Wakes wakes;
  {
    absl::MutexLock lock(&mu_);
    if (std::find(readers_.begin(), readers_.end(), reader) == readers_.end()) return;  // has its end already
    reader->leaving = true;
    reader->leaves_with = std::move(why);
    Pump(reader, Now(), &wakes);
  }
  Run(wakes);
}

bool RequestStream::HasReaders() const {
  absl::MutexLock lock(&mu_);
  return IsRead();
}

bool RequestStream::IsRead() const {
  return std::any_of(readers_.begin(), readers_.end(), [](const Reader* r) { return !r->leaving; });
}

void RequestStream::Remove(Reader* reader) { readers_.erase(std::find(readers_.begin(), readers_.end(), reader)); }

std::string RequestStream::TakeVector() {
  absl::MutexLock lock(&mu_);
  return std::move(vector_);
}

// ---- what to say next ---------------------------------------------------------------------------------------------

void RequestStream::PumpAll(core::Instant now, Wakes* wakes) {
  for (size_t i = readers_.size(); i-- > 0;) Pump(readers_[i], now, wakes);  // Pump may remove readers_[i]
}

void RequestStream::Pump(Reader* reader, core::Instant now, Wakes* wakes) {
  if (reader->busy) return;
  if (reader->leaving) {
    Remove(reader);
    wakes->push_back({reader->sink, reader, Wake::kEnd, reader->leaves_with.value_or(ClientLeft())});
    return;
  }
  bool last = false;
  if (started_.attempt.counter != 0 && reader->announced != started_.attempt) {
    ComposeAccepted(reader);
  } else if (reader->next < released_) {
    reader->next = log_.Fill(reader->next, released_, reader->message.mutable_chunk());
  } else if (ended_ && reader->next > log_.size()) {
    Error error{kInvalidParameter, absl::StrFormat("next_index is %d; request %s ended with %d tokens", reader->next,
                                                   ToHex(facts_.id), log_.size())};
    Remove(reader);
    wakes->push_back({reader->sink, reader, Wake::kEnd, failure_.value_or(std::move(error))});
    return;
  } else if (ended_ && !reader->tail_sent && !log_.Tail().empty()) {
    reader->tail_sent = true;
    auto& chunk = *reader->message.mutable_chunk();
    chunk.Clear();
    chunk.set_offset(reader->next);
    chunk.set_text(std::string(log_.Tail()));
  } else if (ended_ && !failure_) {
    *reader->message.mutable_finished() = finished_;
    last = true;
  } else if (ended_) {
    Remove(reader);
    wakes->push_back({reader->sink, reader, Wake::kEnd, failure_});
    return;
  } else if (reader->progress_due) {
    ComposeProgress(reader);
  } else {
    return;
  }
  reader->opened = reader->busy = true;
  reader->progress_due = false;
  reader->last_sent = now;
  if (last) Remove(reader);
  const bool more = ended_ || reader->next < released_;
  wakes->push_back({reader->sink, reader, last ? Wake::kSendLast : more ? Wake::kSendMore : Wake::kSend, {}});
}

void RequestStream::ComposeAccepted(Reader* reader) {
  reader->announced = started_.attempt;
  auto& accepted = *reader->message.mutable_accepted();
  accepted.Clear();
  accepted.set_request_id(ToHex(facts_.id));
  SetEpoch(started_.attempt.leader, started_.attempt.counter, accepted.mutable_attempt());
  accepted.set_prompt_tokens(facts_.prompt_tokens);
  accepted.set_cached_tokens(cached_tokens_);
  accepted.set_seed(facts_.seed);
  accepted.set_model_revision(facts_.model_revision);
  accepted.set_group(core::Name(started_.group));
  accepted.set_numerics_id(started_.numerics_id);
}

void RequestStream::ComposeProgress(Reader* reader) {
  auto& progress = *reader->message.mutable_progress();
  progress.Clear();
  progress.set_request_id(ToHex(facts_.id));
  switch (state_) {
    case core::RequestState::kQueued:
      progress.set_state(v1::Progress::QUEUED);
      progress.set_waits_for(waits_for_);
      progress.set_queue_position(queue_position_);
      break;
    case core::RequestState::kAssigned:
      progress.set_state(v1::Progress::ASSIGNED);
      break;
    case core::RequestState::kMigrating:
      progress.set_state(v1::Progress::MIGRATING);
      progress.set_waits_for(waits_for_);
      progress.set_queue_position(queue_position_);
      break;
    default:
      progress.set_state(v1::Progress::RUNNING);
      break;
  }
}

void RequestStream::Run(const Wakes& wakes) {
  for (const Wake& wake : wakes) {
    switch (wake.kind) {
      case Wake::kOpen:
        wake.sink->Open();
        break;
      case Wake::kSend:
        wake.sink->Send(wake.reader->message, false);
        break;
      case Wake::kSendMore:
        wake.sink->Send(wake.reader->message, true);
        break;
      case Wake::kSendLast:
        wake.sink->SendLast(wake.reader->message);
        break;
      case Wake::kEnd:
        wake.sink->End(*wake.error);
        break;
    }
  }
}

// ---- from the router's clock --------------------------------------------------------------------------------------

void RequestStream::OnTick(core::Instant now, core::Instant silent_since) {
  Wakes wakes;
  {
    absl::MutexLock lock(&mu_);
    tick_promised_ = false;
    if (released_ < log_.size() && released_at_ + facts_.chunk_interval <= now) {
      released_ = log_.size();
      released_at_ = now;
    }
    for (Reader* reader : readers_) reader->progress_due |= reader->last_sent <= silent_since;
    PumpAll(now, &wakes);
  }
  Run(wakes);
}

core::Instant RequestStream::TakeGatherDue() {
  absl::MutexLock lock(&mu_);
  if (tick_promised_ || released_ == log_.size()) return core::kNever;
  tick_promised_ = true;
  return released_at_ + facts_.chunk_interval;
}

void RequestStream::SetQueuePosition(uint32_t position) {
  absl::MutexLock lock(&mu_);
  queue_position_ = position;
}

std::optional<core::DeviceId> RequestStream::Rank0(core::Attempt attempt) const {
  absl::MutexLock lock(&mu_);
  if (!assignment_ || assignment_->attempt != attempt) return std::nullopt;
  return assignment_->rank0;
}

core::RequestEnded RequestStream::HowEnded(core::Attempt attempt) const {
  absl::MutexLock lock(&mu_);
  core::RequestEnded ended{facts_.id, attempt, core::EndedHow::kAborted, {}, "its client has its end"};
  if (!ended_ || failure_) return ended;
  ended.how = finished_.reason() == v1::LENGTH ? core::EndedHow::kLengthReached : core::EndedHow::kStopped;
  ended.output = {static_cast<int64_t>(finished_.usage().completion_tokens())};
  return ended;
}

core::Attempt RequestStream::attempt() const {
  absl::MutexLock lock(&mu_);
  return assignment_ ? assignment_->attempt : core::Attempt();
}

bool RequestStream::Agrees(absl::Span<const uint32_t> ids) const {
  absl::MutexLock lock(&mu_);
  return log_.Agrees(ids);
}

std::optional<v1::Finished> RequestStream::Result() const {
  absl::MutexLock lock(&mu_);
  if (!ended_ || failure_) return std::nullopt;
  return finished_;
}

std::optional<Error> RequestStream::failure() const {
  absl::MutexLock lock(&mu_);
  return failure_;
}

RequestStream::Course RequestStream::course() const {
  absl::MutexLock lock(&mu_);
  Course course;
  if (assignment_) {
    course.assigned = assigned_at_ - facts_.arrived;
    course.group = assignment_->group;
  }
  if (first_token_at_.us != 0) course.first_token = first_token_at_ - facts_.arrived;
  course.output_tokens = log_.size();
  return course;
}

bool RequestStream::Ended() const {
  absl::MutexLock lock(&mu_);
  return ended_;
}

bool RequestStream::AbandonUnread() {
  absl::MutexLock lock(&mu_);
  if (ended_ || IsRead()) return false;
  abandoned_.store(true, std::memory_order_relaxed);
  return true;
}

bool RequestStream::MayAttach() const {
  absl::MutexLock lock(&mu_);
  return !failure_ && !abandoned();
}

core::RequestState RequestStream::state() const {
  absl::MutexLock lock(&mu_);
  return state_;
}

size_t RequestStream::output_tokens() const {
  absl::MutexLock lock(&mu_);
  return log_.size();
}

size_t RequestStream::bytes() const {
  absl::MutexLock lock(&mu_);
  return sizeof(*this) + log_.bytes();
}

}  // namespace tandem::scheduler
