#include "client/gateway/completion_call.h"

#include <iterator>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/time/clock.h"
#include "client/gateway/gateway.h"
#include "client/gateway/http_text.h"

namespace tandem::gateway {

CompletionCall::CompletionCall(CompletionRequest request, std::shared_ptr<RoutedExchange> exchange,
                               client::AsyncClient* client, Metrics* metrics)
    : request_(std::move(request)),
      format_(request_, exchange->request().id, absl::ToUnixSeconds(absl::Now())),
      logprobs_style_{.chat = request_.chat, .tokens_as_ids = request_.tokens_as_ids},
      exchange_(std::move(exchange)),
      client_(client),
      metrics_(metrics),
      choices_(request_.choices()) {
  for (size_t i = 0; request_.tools.any() && i < choices_.size(); ++i) {
    readers_.emplace_back(&request_.tools.offered, request_.tools.one_call);
  }
}

void CompletionCall::Start(absl::Duration timeout) {
  const auto metadata = MetadataOf(exchange_->request());
  exchange_->OnCut([self = shared_from_this()](Cut cut) { self->Fail(CutError(cut), cut == Cut::kClientLeft); });
  for (int i = 0; i < request_.choices(); ++i) {
    choices_[i].logprobs = LogprobsJson(logprobs_style_);
    // Who asks once is told at once that there is no room, since whoever routes between services can go elsewhere. The
    // other choices of one that was taken up wait for theirs.
    client::GenerateOptions options{.timeout = timeout, .retries = i == 0 ? 0 : 4, .metadata = metadata};
    streams_.push_back(client_->Generate(request_.ForChoice(i), std::move(options),
                                         [exchange = exchange_, weak = weak_from_this(), i](client::StreamEvent event) {
                                           exchange->Post([weak, i, event = std::move(event)]() mutable {
                                             if (const auto self = weak.lock()) self->OnEvent(i, std::move(event));
                                           });
                                         }));
  }
  for (client::AsyncStream& stream : streams_) stream.Next();
}

void CompletionCall::OnEvent(int index, client::StreamEvent event) {
  if (done_) return;
  if (const auto* accepted = std::get_if<v1::Accepted>(&event)) {
    Identify(accepted->request_id());
    OnAccepted(index);
  } else if (const auto* chunk = std::get_if<v1::Chunk>(&event)) {
    OnAccepted(index);
    OnChunk(index, *chunk);
  } else if (auto* end = std::get_if<absl::StatusOr<client::GenerateResult>>(&event)) {
    if (!end->ok()) return Fail(FromStatus(end->status()));
    Identify((*end)->accepted.request_id());
    return OnEnd(index, std::move((*end)->finished));
  } else {
    Identify(std::get<v1::Progress>(event).request_id());
    if (begun_) exchange_->Write(": waiting\n\n");  // so that no proxy takes the stream for dead
  }
  AskForMore(index);
}

// The scheduler's name for the request, as `tandemctl explain` takes it. Of several choices, the first to have one.
void CompletionCall::Identify(const std::string& request_id) {
  if (request_id_.empty()) request_id_ = request_id;
}

HttpResponse CompletionCall::Identified(HttpResponse response) const {
  if (!request_id_.empty()) response.headers.emplace_back("x-tandem-request-id", request_id_);
  return response;
}

// Comes again when a request has moved to other devices; the answer has begun once.
void CompletionCall::OnAccepted(int index) {
  if (std::exchange(choices_[index].accepted, true) || !request_.stream) return;
  if (!std::exchange(begun_, true)) {
    HttpResponse head = Identified({.headers = {{"cache-control", "no-cache"}, {"x-accel-buffering", "no"}}});
    exchange_->BeginStream("text/event-stream; charset=utf-8", std::move(head.headers));
  }
  event_.clear();
  format_.AppendBegin(index, &event_);
  exchange_->Write(event_);
}

void CompletionCall::OnChunk(int index, const v1::Chunk& chunk) {
  if (!std::exchange(text_seen_, true)) metrics_->OnFirstToken(exchange_->route(), absl::Now() - exchange_->begin());
  choices_[index].logprobs.Add(chunk);
  if (readers_.empty()) return Show(index, {.text = chunk.text(), .calls = {}});
  Show(index, readers_[index].Read(chunk.text()));
}

void CompletionCall::Show(int index, ToolCallReader::Found found) {
  Choice& choice = choices_[index];
  if (!request_.stream) {
    choice.text += found.text;
    absl::c_move(found.calls, std::back_inserter(choice.calls));
    return;
  }
  // Nothing to show: a token that only begins a character, or text that is held since it may become a call.
  const bool held = !readers_.empty() && !choice.ended;
  if (found.text.empty() && found.calls.empty() && (held || choice.logprobs.empty())) return;
  event_.clear();
  if (found.calls.empty() || !found.text.empty()) {
    format_.AppendDelta(index, found.text, choice.logprobs, &event_);
    choice.logprobs = LogprobsJson(logprobs_style_, choice.logprobs.text_offset());
  }
  if (!found.calls.empty()) {
    format_.AppendCalls(index, found.calls, readers_[index].calls() - found.calls.size(), choice.logprobs, &event_);
    choice.logprobs = LogprobsJson(logprobs_style_, choice.logprobs.text_offset());
  }
  exchange_->Write(event_);
}

void CompletionCall::OnEnd(int index, v1::Finished finished) {
  Choice& choice = choices_[index];
  if (request_.include_stop && finished.has_stop_string()) {
    v1::Chunk stop;
    stop.set_text(finished.stop_string());
    OnChunk(index, stop);
  }
  choice.finished = std::move(finished);
  choice.ended = true;
  OnAccepted(index);  // a request that had ended already when it was attached to
  if (!readers_.empty()) Show(index, readers_[index].End());
  if (request_.stream) {
    event_.clear();
    format_.AppendEnd(index, choice.finished, !readers_.empty() && readers_[index].calls() > 0, &event_);
    exchange_->Write(event_);
  }
  if (++ended_ == choices_.size()) Complete();
}

void CompletionCall::AskForMore(int index) {
  if (!exchange_->Congested()) return streams_[index].Next();
  if (stalled_.empty()) exchange_->OnWritable([self = shared_from_this()] { self->AskStalled(); });
  stalled_.push_back(index);
}

void CompletionCall::AskStalled() {
  for (const int index : std::exchange(stalled_, {})) streams_[index].Next();
}

void CompletionCall::Complete() {
  done_ = true;
  uint64_t prompt = 0, completion = 0;
  for (size_t i = 0; i < choices_.size(); ++i) {
    const v1::Usage& usage = choices_[i].finished.usage();
    if (i % request_.n == 0) prompt += usage.prompt_tokens();
    completion += usage.completion_tokens();
  }
  metrics_->OnTokens(exchange_->tenant(), prompt, completion);
  if (!request_.stream) return exchange_->Respond(Identified({.body = format_.Whole(choices_)}));
  event_.clear();
  format_.AppendUsage(choices_, &event_);
  AnswerFormat::AppendDone(&event_);
  exchange_->Write(event_);
  exchange_->EndStream();
}

void CompletionCall::Fail(const ApiError& error, bool client_left) {
  if (std::exchange(done_, true)) return;
  CancelAll();
  if (!begun_) return exchange_->Respond(Identified(ToResponse(error)));
  if (!client_left) exchange_->CountFailedStream(error);
  event_.clear();
  AnswerFormat::AppendError(error, &event_);
  exchange_->Write(event_);
  exchange_->EndStream();
}

void CompletionCall::CancelAll() {
  for (client::AsyncStream& stream : streams_) stream.Cancel();
}

}  // namespace tandem::gateway
