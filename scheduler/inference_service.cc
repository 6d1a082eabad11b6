#include "scheduler/inference_service.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/prefix_hash/prefix_hash.h"
#include "scheduler/chat_prompt.h"
#include "scheduler/clock.h"
#include "scheduler/encode_service.h"
#include "scheduler/ids.h"
#include "scheduler/metrics_text.h"
#include "scheduler/row_messages.h"
#include "scheduler/row_pages.h"
#include "scheduler/stream_call.h"
#include "scheduler/validate_request.h"
#include "scheduler/validate_task.h"

namespace tandem::scheduler {
namespace {

// Up to this many given ids are handled where they arrive; more go through the pool, as text does.
constexpr int kFewIds = 1024;
// A core that needs longer for a turn is stuck.
constexpr absl::Duration kPatience = absl::Seconds(5);

std::optional<core::Duration> TimeLeft(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return std::nullopt;
  const auto left = deadline - std::chrono::system_clock::now();
  return core::Duration{std::chrono::duration_cast<std::chrono::microseconds>(left).count()};
}

// Early enough to be no work, late enough that a prompt a little too long is told its exact length.
size_t MostPromptTokens(const ModelLimits& limits) { return 2 * size_t{limits.max_model_len} + 1024; }

// Checked to be below the vocabulary's size, so the sign makes no difference.
absl::Span<const int32_t> Ids(const google::protobuf::RepeatedField<uint32_t>& ids) {
  return {reinterpret_cast<const int32_t*>(ids.data()), static_cast<size_t>(ids.size())};
}

// What the request has of what it asks for. An error where that is more than its caller may.
std::optional<Error> AllowPriority(int32_t asked, const Admission& admission, int32_t* priority) {
  if (asked > security::kHighestPriority) return std::nullopt;  // nobody may, and the check of the request says so
  const auto allowed = security::PriorityWithin(admission.highest_priority, asked);
  if (!allowed) {
    return Error{
        kPermissionDenied,
        absl::StrCat("priority is ", asked, "; this caller may ask for ", admission.highest_priority, " or less"),
        {},
        {{"field", "priority"}}};
  }
  *priority = *allowed;
  return std::nullopt;
}

grpc::ServerUnaryReactor* FinishNow(grpc::CallbackServerContext* context, const grpc::Status& status) {
  auto* reactor = context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

}  // namespace

std::optional<Error> InferenceService::FindModel(const std::string& name, ServedModelPtr* model) const {
  *model = parts_.catalog->Find(name);
  if (*model != nullptr) return std::nullopt;
  return Error{kModelNotFound,
               absl::StrCat("there is no model \"", name.substr(0, 128), "\"; there are: ", parts_.catalog->Names())};
}

// ---- Generate -----------------------------------------------------------------------------------------------------

class InferenceService::GenerateCall final : public StreamCall<v1::GenerateResponse> {
 public:
  GenerateCall(InferenceService* service, grpc::CallbackServerContext* context, const v1::GenerateRequest* request,
               const Admission& admission)
      : StreamCall(service->parts_.router, service->parts_.log, context, request->tenant(), admission),
        service_(service),
        request_(*request),
        arrived_(Now()) {}

  void Begin(const grpc::CallbackServerContext& context) {
    if (!service_->admitting_) return Refuse(ShuttingDown());
    if (const auto error = service_->FindModel(request_.model(), &model_)) return Refuse(*error);
    SetModel(model_->spec.name);
    if (const auto error = ValidateTask(*model_, "generate", "Generate")) return Refuse(*error);
    if (const auto error = ValidateGenerate(request_, model_->limits)) return Refuse(*error);
    if (const auto error = AllowPriority(request_.priority(), admission(), &priority_)) return Refuse(*error);
    deadline_ = TimeLeft(context);
    if (deadline_ && deadline_->us <= 0) {
      return Refuse({kDeadlineExceeded, "the call's deadline had passed when it arrived"});
    }
    if (AttachToRunning()) return;
    if (request_.has_token_ids() && request_.token_ids().ids_size() <= kFewIds) return Enter({});
    const size_t bytes = request_.ByteSizeLong();
    auto self = shared_from_this();
    if (!service_->parts_.pool->Submit(bytes, [this, self] { Tokenize(); })) {
      Refuse(TooMuchAtHand());
    }
  }

 private:
  // A second call with the key of a request that is known reads that request.
  bool AttachToRunning() {
    if (request_.idempotency_key().empty()) return false;
    auto stream = service_->parts_.store->FindByKey(request_.tenant(), request_.idempotency_key());
    if (!stream || !stream->MayAttach()) return false;
    ReadOther(std::move(stream));
    return true;
  }
  void ReadOther(std::shared_ptr<RequestStream> stream) {
    const bool other_seed = request_.sampling().has_seed() && request_.sampling().seed() != stream->facts().seed;
    if (other_seed || stream->facts().fingerprint != Fingerprint(request_, model_->limits)) {
      return Refuse({kInvalidParameter,
                     absl::StrCat("idempotency_key names request ", ToHex(stream->facts().id),
                                  ", which has another model, prompt, sampling, stopping, seed or logprobs; use a new "
                                  "key for a new request"),
                     {},
                     {{"field", "idempotency_key"}}});
    }
    const auto& known = request_.resume_token_ids();
    if (!stream->Agrees({known.data(), static_cast<size_t>(known.size())})) {
      return Refuse(
          {kInvalidParameter,
           absl::StrCat("idempotency_key names request ", ToHex(stream->facts().id),
                        ", whose tokens are not those of resume_token_ids; use a new key to go on from these"),
           {},
           {{"field", "resume_token_ids"}}});
    }
    Read(std::move(stream), static_cast<size_t>(known.size()));
  }

  void Tokenize() {
    if (Cancelled()) return End(ClientLeft());
    if (request_.has_token_ids()) return Enter({});
    const size_t most = MostPromptTokens(model_->limits);
    chat::Text rendered;
    if (request_.has_chat()) {
      if (const auto error = RenderChat(request_.chat(), *model_->chat_template, &rendered)) return Refuse(*error);
    }
    const auto ids = request_.has_chat() ? EncodeChat(rendered, *model_->tokenizer, most)
                                         : model_->tokenizer->Encode(request_.text(), {.max_tokens = most});
    if (ids.ok()) return Enter(*ids);
    if (ids.status().code() != absl::StatusCode::kOutOfRange) {
      return Refuse({kInvalidParameter, std::string(ids.status().message())});
    }
    Refuse({kContextLengthExceeded,
            absl::StrFormat("the prompt has more than %d tokens (%d bytes); the context of model %s is %d tokens, "
                            "prompt and completion together",
                            most, request_.has_chat() ? rendered.size() : request_.text().size(), model_->spec.name,
                            model_->limits.max_model_len)});
  }

  // `ids` are those of a text or conversation; given ids are in the request.
  void Enter(const std::vector<int32_t>& ids) {
    const size_t prompt_tokens = request_.has_token_ids() ? request_.token_ids().ids_size() : ids.size();
    if (const auto error = ValidateLengths(request_, prompt_tokens, model_->limits)) return Refuse(*error);

    v1::AssignRequest payload;
    FillAssignment(request_, model_->limits, &payload);
    payload.set_priority(priority_);
    if (request_.has_token_ids()) {
      *payload.mutable_prompt_ids() = request_.token_ids().ids();
    } else {
      payload.mutable_prompt_ids()->Add(ids.begin(), ids.end());
    }
    // A turn ends with the tokenizer's end token, which a model's generation settings need not name.
    const auto end_of_turn = model_->tokenizer->eos_id();
    if (request_.has_chat() && !request_.stopping().ignore_eos() && end_of_turn) {
      payload.add_stop_token_ids(static_cast<uint32_t>(*end_of_turn));
    }
    // Tenants never share a cached prefix: whether one is there could be told from the time it takes.
    payload.set_cache_salt(service_->parts_.cache_salt + request_.tenant());
    const core::RequestId id = RandomRequestId();
    core::RequestArrived event = Event(id, prompt_tokens);
    event.prefix = PrefixLandmarks(payload.cache_salt(), Ids(payload.prompt_ids()));
    event.bytes = {static_cast<int64_t>(payload.SpaceUsedLong())};
    const auto stream = std::make_shared<RequestStream>(MakeFacts(id, payload), std::move(payload));
    const auto taken = service_->parts_.store->AddOrFind(stream);
    if (taken != stream) return ReadOther(taken);
    if (!service_->parts_.core->TryPost(std::move(event))) {
      service_->parts_.store->Remove(*stream);
      return Refuse(TooMuchAtHand());
    }
    Read(stream, static_cast<size_t>(request_.resume_token_ids_size()));
  }

  core::RequestArrived Event(core::RequestId id, size_t prompt_tokens) const {
    core::RequestArrived event;
    event.request = id;
    event.model = model_->spec.name;
    event.prompt = {static_cast<int64_t>(prompt_tokens)};
    event.known_output = {request_.resume_token_ids_size()};
    if (request_.stopping().has_max_tokens()) event.max_tokens = core::Tokens{request_.stopping().max_tokens()};
    if (deadline_) event.deadline = core::Duration{deadline_->us - (Now() - arrived_).us};  // tokenizing took its part
    event.priority = priority_;
    event.tenant = request_.tenant();
    event.caller_id = caller().id;
    event.trace_id = caller().trace;
    return event;
  }

  RequestStream::Facts MakeFacts(core::RequestId id, const v1::AssignRequest& payload) const {
    RequestStream::Facts facts;
    facts.id = id;
    facts.model = model_->spec.name;
    facts.model_revision = model_->spec.revision;
    facts.tenant = request_.tenant();
    facts.idempotency_key = request_.idempotency_key();
    if (!facts.idempotency_key.empty()) facts.fingerprint = Fingerprint(request_, model_->limits);
    facts.prompt_tokens = payload.prompt_ids_size();
    facts.vocab_size = model_->limits.vocab_size;
    facts.logprobs = request_.has_logprobs();
    facts.seed = payload.sampling().seed();
    facts.chunk_interval = core::Milliseconds(request_.chunk_interval_ms());
    facts.arrived = arrived_;
    facts.tokenizer = model_->tokenizer;
    facts.stop.assign(request_.stopping().stop().begin(), request_.stopping().stop().end());
    facts.known_output.assign(request_.resume_token_ids().begin(), request_.resume_token_ids().end());
    facts.continues_text = model_->tokenizer->HasText(Ids(payload.prompt_ids()));
    facts.caller = caller();
    facts.flow = service_->parts_.metrics->FlowOf(facts.model, facts.tenant);
    return facts;
  }

  InferenceService* const service_;
  const v1::GenerateRequest& request_;  // gRPC keeps it until OnDone
  const core::Instant arrived_;
  int32_t priority_ = 0;
  ServedModelPtr model_;
  std::optional<core::Duration> deadline_;  // from arrived_
};

grpc::ServerWriteReactor<v1::GenerateResponse>* InferenceService::Generate(grpc::CallbackServerContext* context,
                                                                           const v1::GenerateRequest* request,
                                                                           const Admission& admission) {
  const auto call = std::make_shared<GenerateCall>(this, context, request, admission);
  call->Hold();
  call->Begin(*context);
  return call.get();
}

// ---- Resume -------------------------------------------------------------------------------------------------------

class InferenceService::ResumeCall final : public StreamCall<v1::ResumeResponse> {
 public:
  using StreamCall::StreamCall;

  void Begin(Reattachment* reattachment, const v1::ResumeRequest& request) {
    Reattachment::Which which{.tenant = request.tenant()};
    switch (request.which_case()) {
      case v1::ResumeRequest::kRequestId:
        which.id = RequestIdFromHex(request.request_id());
        if (which.id) break;
        return Refuse({kInvalidParameter, "request_id is not 32 hex digits", {}, {{"field", "request_id"}}});
      case v1::ResumeRequest::kIdempotencyKey:
        which.key = request.idempotency_key();
        break;
      case v1::ResumeRequest::WHICH_NOT_SET:
        return Refuse({kInvalidParameter, "set request_id or idempotency_key", {}, {{"field", "which"}}});
    }
    reattachment->Await(std::move(which), [this, self = shared_from_this(),
                                           next = request.next_index()](std::shared_ptr<RequestStream> stream) {
      if (stream && !stream->abandoned()) return Read(std::move(stream), next);
      Refuse({kResumeUnknown, "no such request, or it ended too long ago; send Generate again with resume_token_ids"});
    });
  }
};

grpc::ServerWriteReactor<v1::ResumeResponse>* InferenceService::Resume(grpc::CallbackServerContext* context,
                                                                       const v1::ResumeRequest* request,
                                                                       const Admission& admission) {
  const auto call = std::make_shared<ResumeCall>(parts_.router, parts_.log, context, request->tenant(), admission);
  call->Hold();
  call->Begin(parts_.reattachment, *request);
  return call.get();
}

// ---- the rest -----------------------------------------------------------------------------------------------------

grpc::ServerUnaryReactor* InferenceService::Abort(grpc::CallbackServerContext* context, const v1::AbortRequest* request,
                                                  v1::AbortResponse* response) {
  const auto abort = [&](const std::shared_ptr<RequestStream>& stream, const std::string& name) {
    if (!stream || stream->Ended()) return;
    if (stream->facts().tenant != request->tenant()) return;  // a request of another tenant is not there
    parts_.core->PostOwed(core::RequestCancelled{stream->facts().id, core::CancelCause::kClientAsked});
    response->add_aborted(name);
  };
  for (const std::string& text : request->request_ids()) {
    const auto id = RequestIdFromHex(text);
    abort(id ? parts_.store->Find(*id) : nullptr, text);
  }
  for (const std::string& key : request->idempotency_keys()) {
    const auto stream = parts_.store->FindByKey(request->tenant(), key);
    if (stream) abort(stream, ToHex(stream->facts().id));
  }
  return FinishNow(context, grpc::Status::OK);
}

// One that asks for tokens or text, and no engine: what is turned away of these is counted as others are.
class InferenceService::TextCall {
 public:
  TextCall(const Parts& parts, grpc::CallbackServerContext* context)
      : parts_(parts), reactor_(context->DefaultReactor()), asked_{"", "", ReadCallerIds(context->client_metadata())} {}

  void SetModel(const ServedModel& model) { asked_.model = model.spec.name; }
  grpc::ServerUnaryReactor* reactor() const { return reactor_; }
  grpc::ServerUnaryReactor* Refuse(const Error& error) const {
    parts_.log->Refused(asked_, error, Now());
    reactor_->Finish(ToGrpc(error));
    return reactor_;
  }
  void Done() const { reactor_->Finish(grpc::Status::OK); }

 private:
  const Parts& parts_;  // of the service, which outlives its calls
  grpc::ServerUnaryReactor* const reactor_;
  RefusedCall asked_;
};

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const v1::TokenizeRequest* request,
                                                     v1::TokenizeResponse* response) {
  TextCall call(parts_, context);
  ServedModelPtr model;
  if (const auto error = FindModel(request->model(), &model)) return call.Refuse(*error);
  call.SetModel(*model);
  if (const auto error = ValidateTokenize(*request, model->limits)) return call.Refuse(*error);
  const bool taken = parts_.pool->Submit(request->ByteSizeLong(), [=] {
    chat::Text rendered;
    if (request->has_chat()) {
      if (const auto error = RenderChat(request->chat(), *model->chat_template, &rendered)) {
        call.Refuse(*error);
        return;
      }
    }
    constexpr size_t kUnlimited = std::numeric_limits<size_t>::max();
    const auto ids = request->has_chat() ? EncodeChat(rendered, *model->tokenizer, kUnlimited)
                                         : model->tokenizer->Encode(
                                               request->text(), {.add_special_tokens = !request->no_special_tokens()});
    if (!ids.ok()) {
      call.Refuse({kInvalidParameter, std::string(ids.status().message())});
      return;
    }
    response->mutable_token_ids()->Add(ids->begin(), ids->end());
    response->set_max_model_len(model->limits.max_model_len);
    call.Done();
  });
  return taken ? call.reactor() : call.Refuse(TooMuchAtHand());
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  TextCall call(parts_, context);
  ServedModelPtr model;
  if (const auto error = FindModel(request->model(), &model)) return call.Refuse(*error);
  call.SetModel(*model);
  if (const auto error = ValidateIds(request->token_ids(), "token_ids", model->limits)) return call.Refuse(*error);
  const bool taken = parts_.pool->Submit(request->token_ids_size() * sizeof(uint32_t), [=] {
    const std::vector<int32_t> ids(request->token_ids().begin(), request->token_ids().end());
    response->set_text(model->tokenizer->Decode(ids, !request->keep_special_tokens()));
    call.Done();
  });
  return taken ? call.reactor() : call.Refuse(TooMuchAtHand());
}

grpc::ServerUnaryReactor* InferenceService::GetMetrics(grpc::CallbackServerContext* context,
                                                       const v1::GetMetricsRequest* request,
                                                       v1::GetMetricsResponse* response) {
  if (request->names() != "vllm") {
    return FinishNow(context,
                     ToGrpc({kInvalidParameter, "names: only those of vllm are known", {}, {{"field", "names"}}}));
  }
  return Answer(context, [=, this](CoreReader& reader) {
    const auto seen = TakeVllmMetrics(reader);
    if (!seen) return ToGrpc(TooMuchAtHand());
    response->set_text(VllmMetricsText(*seen, parts_.metrics->Read()));
    return grpc::Status::OK;
  });
}

grpc::ServerUnaryReactor* InferenceService::ListModels(grpc::CallbackServerContext* context,
                                                       const v1::ListModelsRequest*, v1::ListModelsResponse* response) {
  return Answer(context, [=, this](CoreReader& reader) {
    const auto groups = Read(reader, TakeGroupNumbers);
    const auto models = Read(reader, TakeModels);
    if (!groups || !models) return ToGrpc(TooMuchAtHand());
    const auto accounts = AccountsOf(groups->rows);
    for (const ModelRow& model : models->rows) {
      if (model.undeployed) continue;
      auto& out = *response->add_models();
      out.set_name(model.spec.name);
      for (const std::string& alias : model.spec.aliases) out.add_aliases(alias);
      out.set_task(model.spec.task);
      out.set_max_model_len(parts_.catalog->At(model.id)->limits.max_model_len);
      out.set_revision(model.spec.revision);
      out.set_ready(IsReady(model, AccountOf(accounts, model.id)));
    }
    return grpc::Status::OK;
  });
}

grpc::ServerUnaryReactor* InferenceService::Answer(grpc::CallbackServerContext* context,
                                                   std::function<grpc::Status(CoreReader&)> answer) {
  auto* reactor = context->DefaultReactor();
  const bool taken = parts_.answers->Post([this, reactor, answer = std::move(answer)] {
    CoreReader reader([this](CoreReader::Query query) { return parts_.core->PostQuery(std::move(query)); }, kPatience);
    reactor->Finish(answer(reader));
  });
  if (!taken) reactor->Finish(ToGrpc(TooMuchAtHand()));
  return reactor;
}

// ---- encoders -----------------------------------------------------------------------------------------------------

std::optional<Error> InferenceService::FindEncoder(const std::string& name, ServedModelPtr* model) const {
  if (!admitting_) return ShuttingDown();
  return FindModel(name, model);
}

template <typename Request, typename Response, typename Start>
grpc::ServerUnaryReactor* InferenceService::Encode(grpc::CallbackServerContext* context, const Request* request,
                                                   Response* response, const Admission& admission, Start start) {
  RefusedCall call{"", request->tenant(), ReadCallerIds(context->client_metadata())};
  ServedModelPtr model;
  int32_t priority = 0;
  auto error = FindEncoder(request->model(), &model);
  if (!error) {
    call.model = model->spec.name;
    error = AllowPriority(request->priority(), admission, &priority);
  }
  if (error) {
    parts_.log->Refused(call, *error, Now());
    return FinishNow(context, ToGrpc(*error));
  }
  return start({parts_.core, parts_.store, parts_.router, parts_.pool, parts_.metrics, parts_.log}, std::move(call),
               std::move(model), priority, context, request, response);
}

grpc::ServerUnaryReactor* InferenceService::Embed(grpc::CallbackServerContext* context, const v1::EmbedRequest* request,
                                                  v1::EmbedResponse* response, const Admission& admission) {
  return Encode(context, request, response, admission, StartEmbed);
}

grpc::ServerUnaryReactor* InferenceService::Rerank(grpc::CallbackServerContext* context,
                                                   const v1::RerankRequest* request, v1::RerankResponse* response,
                                                   const Admission& admission) {
  return Encode(context, request, response, admission, StartRerank);
}

}  // namespace tandem::scheduler
