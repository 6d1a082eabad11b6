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
#include "scheduler/stream_call.h"
#include "scheduler/validate_request.h"
#include "scheduler/validate_task.h"

namespace tandem::scheduler {
namespace {

// Up to this many given ids are handled where they arrive; more go through the pool, as text does.
constexpr int kFewIds = 1024;

constexpr absl::string_view kBehind = "the scheduler has more requests at hand than it can take in; try again later";

std::optional<core::Duration> TimeLeft(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return std::nullopt;
  const auto left = deadline - std::chrono::system_clock::now();
  return core::Duration{std::chrono::duration_cast<std::chrono::microseconds>(left).count()};
}

// Early enough to be no work, late enough that a prompt a little too long is told its exact length.
size_t MostPromptTokens(const ModelLimits& limits) { return 2 * size_t{limits.max_model_len} + 1024; }

// FNV-1a: equal in every process, since workers keep it for a scheduler that starts anew. Never 0, which is no key.
uint64_t Fingerprint(const v1::GenerateRequest& request, const std::string& model) {
  uint64_t hash = 14695981039346656037u;
  const auto take = [&hash](const void* data, size_t size) {
    for (const auto* byte = static_cast<const uint8_t*>(data); size > 0; ++byte, --size) {
      hash = (hash ^ *byte) * 1099511628211u;
    }
  };
  take(model.c_str(), model.size() + 1);
  if (request.has_text()) take(request.text().data(), request.text().size());
  if (request.has_chat()) {  // without maps, so equal conversations have equal bytes
    const std::string chat = request.chat().SerializeAsString();
    take(chat.data(), chat.size());
  }
  const auto& ids = request.token_ids().ids();
  take(ids.data(), ids.size() * sizeof(ids.data()[0]));
  return std::max<uint64_t>(hash, 1);
}

// Checked to be below the vocabulary's size, so the sign makes no difference.
absl::Span<const int32_t> Ids(const google::protobuf::RepeatedField<uint32_t>& ids) {
  return {reinterpret_cast<const int32_t*>(ids.data()), static_cast<size_t>(ids.size())};
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
  GenerateCall(InferenceService* service, grpc::CallbackServerContext* context, const v1::GenerateRequest* request)
      : StreamCall(service->parts_.router, context), service_(service), request_(*request), arrived_(Now()) {}

  void Begin(const grpc::CallbackServerContext& context) {
    if (!service_->admitting_) {
      return Refuse({kDraining, "this scheduler is shutting down; try again later or elsewhere", core::Seconds(5)});
    }
    if (const auto error = service_->FindModel(request_.model(), &model_)) return Refuse(*error);
    if (const auto error = ValidateTask(*model_, "generate", "Generate")) return Refuse(*error);
    if (const auto error = ValidateGenerate(request_, model_->limits)) return Refuse(*error);
    deadline_ = TimeLeft(context);
    if (deadline_ && deadline_->us <= 0) {
      return Refuse({kDeadlineExceeded, "the call's deadline had passed when it arrived"});
    }
    if (AttachToRunning()) return;
    if (request_.has_token_ids() && request_.token_ids().ids_size() <= kFewIds) return Enter({});
    const size_t bytes = request_.ByteSizeLong();
    auto self = shared_from_this();
    if (!service_->parts_.pool->Submit(bytes, [this, self] { Tokenize(); })) {
      Refuse({kQueueFull, std::string(kBehind)});
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
    if (stream->facts().fingerprint != Fingerprint(request_, model_->spec.name)) {
      return Refuse({kInvalidParameter,
                     absl::StrCat("idempotency_key names request ", ToHex(stream->facts().id),
                                  ", which has another model or prompt; use a new key for a new request"),
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
    if (Cancelled()) return End(grpc::Status(grpc::StatusCode::CANCELLED, "the client left"));
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
      return Refuse({kQueueFull, std::string(kBehind)});
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
    event.priority = request_.priority();
    event.tenant = request_.tenant();
    event.session = request_.session_id();
    return event;
  }

  RequestStream::Facts MakeFacts(core::RequestId id, const v1::AssignRequest& payload) const {
    RequestStream::Facts facts;
    facts.id = id;
    facts.model = model_->spec.name;
    facts.model_revision = model_->spec.revision;
    facts.tenant = request_.tenant();
    facts.idempotency_key = request_.idempotency_key();
    if (!facts.idempotency_key.empty()) facts.fingerprint = Fingerprint(request_, facts.model);
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
    return facts;
  }

  InferenceService* const service_;
  const v1::GenerateRequest& request_;  // gRPC keeps it until OnDone
  const core::Instant arrived_;
  ServedModelPtr model_;
  std::optional<core::Duration> deadline_;  // from arrived_
};

grpc::ServerWriteReactor<v1::GenerateResponse>* InferenceService::Generate(grpc::CallbackServerContext* context,
                                                                           const v1::GenerateRequest* request) {
  const auto call = std::make_shared<GenerateCall>(this, context, request);
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
                                                                       const v1::ResumeRequest* request) {
  const auto call = std::make_shared<ResumeCall>(parts_.router, context);
  call->Hold();
  call->Begin(parts_.reattachment, *request);
  return call.get();
}

// ---- the rest -----------------------------------------------------------------------------------------------------

grpc::ServerUnaryReactor* InferenceService::Abort(grpc::CallbackServerContext* context, const v1::AbortRequest* request,
                                                  v1::AbortResponse* response) {
  const auto abort = [&](const std::shared_ptr<RequestStream>& stream, const std::string& name) {
    if (!stream || stream->Ended()) return;
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

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const v1::TokenizeRequest* request,
                                                     v1::TokenizeResponse* response) {
  ServedModelPtr model;
  if (const auto error = FindModel(request->model(), &model)) return FinishNow(context, ToGrpc(*error));
  if (const auto error = ValidateTokenize(*request, model->limits)) return FinishNow(context, ToGrpc(*error));
  auto* reactor = context->DefaultReactor();
  const bool taken = parts_.pool->Submit(request->ByteSizeLong(), [=] {
    chat::Text rendered;
    if (request->has_chat()) {
      const auto error = RenderChat(request->chat(), *model->chat_template, &rendered);
      if (error) return reactor->Finish(ToGrpc(*error));
    }
    constexpr size_t kUnlimited = std::numeric_limits<size_t>::max();
    const auto ids = request->has_chat() ? EncodeChat(rendered, *model->tokenizer, kUnlimited)
                                         : model->tokenizer->Encode(
                                               request->text(), {.add_special_tokens = !request->no_special_tokens()});
    if (!ids.ok()) return reactor->Finish(ToGrpc({kInvalidParameter, std::string(ids.status().message())}));
    response->mutable_token_ids()->Add(ids->begin(), ids->end());
    response->set_max_model_len(model->limits.max_model_len);
    reactor->Finish(grpc::Status::OK);
  });
  if (!taken) reactor->Finish(ToGrpc({kQueueFull, std::string(kBehind)}));
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  ServedModelPtr model;
  if (const auto error = FindModel(request->model(), &model)) return FinishNow(context, ToGrpc(*error));
  if (const auto error = ValidateIds(request->token_ids(), "token_ids", model->limits)) {
    return FinishNow(context, ToGrpc(*error));
  }
  auto* reactor = context->DefaultReactor();
  const bool taken = parts_.pool->Submit(request->token_ids_size() * sizeof(uint32_t), [=] {
    const std::vector<int32_t> ids(request->token_ids().begin(), request->token_ids().end());
    response->set_text(model->tokenizer->Decode(ids, !request->keep_special_tokens()));
    reactor->Finish(grpc::Status::OK);
  });
  if (!taken) reactor->Finish(ToGrpc({kQueueFull, std::string(kBehind)}));
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::GetMetrics(grpc::CallbackServerContext* context,
                                                       const v1::GetMetricsRequest* request,
                                                       v1::GetMetricsResponse* response) {
  if (request->names() != "vllm") {
    return FinishNow(context,
                     ToGrpc({kInvalidParameter, "names: only those of vllm are known", {}, {{"field", "names"}}}));
  }
  auto* reactor = context->DefaultReactor();
  const bool asked = parts_.core->PostQuery([this, reactor, response](const core::Core& core) {
    response->set_text(VllmMetricsText(core.state(), parts_.metrics->Read()));
    reactor->Finish(grpc::Status::OK);
  });
  if (!asked) reactor->Finish(ToGrpc({kQueueFull, std::string(kBehind)}));
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::ListModels(grpc::CallbackServerContext* context,
                                                       const v1::ListModelsRequest*, v1::ListModelsResponse* response) {
  auto* reactor = context->DefaultReactor();
  const bool asked = parts_.core->PostQuery([this, reactor, response](const core::Core& core) {
    for (const core::Model& model : core.state().models) {
      if (model.undeployed) continue;
      auto& out = *response->add_models();
      out.set_name(model.spec.name);
      for (const std::string& alias : model.spec.aliases) out.add_aliases(alias);
      out.set_task(model.spec.task);
      out.set_max_model_len(parts_.catalog->At(model.id)->limits.max_model_len);
      out.set_revision(model.spec.revision);
      out.set_ready(core.state().ReadyReplicas(model) > 0);
    }
    reactor->Finish(grpc::Status::OK);
  });
  if (!asked) reactor->Finish(ToGrpc({kQueueFull, std::string(kBehind)}));
  return reactor;
}

// ---- encoders -----------------------------------------------------------------------------------------------------

std::optional<Error> InferenceService::FindEncoder(const std::string& name, ServedModelPtr* model) const {
  if (!admitting_)
    return Error{kDraining, "this scheduler is shutting down; try again later or elsewhere", core::Seconds(5)};
  return FindModel(name, model);
}

grpc::ServerUnaryReactor* InferenceService::Embed(grpc::CallbackServerContext* context, const v1::EmbedRequest* request,
                                                  v1::EmbedResponse* response) {
  ServedModelPtr model;
  if (const auto error = FindEncoder(request->model(), &model)) return FinishNow(context, ToGrpc(*error));
  return StartEmbed({parts_.core, parts_.store, parts_.router, parts_.pool}, model, context, request, response);
}

grpc::ServerUnaryReactor* InferenceService::Rerank(grpc::CallbackServerContext* context,
                                                   const v1::RerankRequest* request, v1::RerankResponse* response) {
  ServedModelPtr model;
  if (const auto error = FindEncoder(request->model(), &model)) return FinishNow(context, ToGrpc(*error));
  return StartRerank({parts_.core, parts_.store, parts_.router, parts_.pool}, model, context, request, response);
}

}  // namespace tandem::scheduler
