// The door for clients: Generate and what belongs to it.
//
// A Generate is checked where it arrives, tokenized in the pool, kept in the store, and told to the core as counts.
// From then on its reactor is a reader of its RequestStream and does nothing but send. A call that ends in whatever way
// leaves the stream; the last one to leave cancels the request.
#ifndef TANDEM_SCHEDULER_INFERENCE_SERVICE_H_
#define TANDEM_SCHEDULER_INFERENCE_SERVICE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "scheduler/answer_thread.h"
#include "scheduler/core_loop.h"
#include "scheduler/core_reader.h"
#include "scheduler/grpc_error.h"
#include "scheduler/model_catalog.h"
#include "scheduler/reattachment.h"
#include "scheduler/request_log.h"
#include "scheduler/request_metrics.h"
#include "scheduler/request_store.h"
#include "scheduler/security/admission.h"
#include "scheduler/token_router.h"
#include "scheduler/tokenizer_pool.h"
#include "tandem/v1/inference.grpc.pb.h"

namespace tandem::scheduler {

class InferenceService final : public v1::InferenceService::CallbackService {
 public:
  struct Parts {
    const ModelCatalog* catalog;
    CoreLoop* core;
    RequestStore* store;
    TokenRouter* router;
    TokenizerPool* pool;
    Reattachment* reattachment;
    RequestMetrics* metrics;
    RequestLog* log;
    AnswerThread* answers;
    std::string cache_salt;  // of this installation, 16 bytes; with the tenant it begins every prefix hash
  };
  explicit InferenceService(Parts parts) : parts_(std::move(parts)) {}

  // New requests are refused as DRAINING from now on; those that run go on.
  void StopAdmitting() { admitting_ = false; }

  // Without an admission: from a door without roles.
  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(grpc::CallbackServerContext* context,
                                                           const v1::GenerateRequest* request) override {
    return Generate(context, request, Admission());
  }
  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(grpc::CallbackServerContext* context,
                                                           const v1::GenerateRequest* request,
                                                           const Admission& admission);
  grpc::ServerWriteReactor<v1::ResumeResponse>* Resume(grpc::CallbackServerContext* context,
                                                       const v1::ResumeRequest* request) override {
    return Resume(context, request, Admission());
  }
  grpc::ServerWriteReactor<v1::ResumeResponse>* Resume(grpc::CallbackServerContext* context,
                                                       const v1::ResumeRequest* request, const Admission& admission);
  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context, const v1::AbortRequest* request,
                                  v1::AbortResponse* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context, const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context, const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* GetMetrics(grpc::CallbackServerContext* context, const v1::GetMetricsRequest* request,
                                       v1::GetMetricsResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context, const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context, const v1::EmbedRequest* request,
                                  v1::EmbedResponse* response) override {
    return Embed(context, request, response, Admission());
  }
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context, const v1::EmbedRequest* request,
                                  v1::EmbedResponse* response, const Admission& admission);
  grpc::ServerUnaryReactor* Rerank(grpc::CallbackServerContext* context, const v1::RerankRequest* request,
                                   v1::RerankResponse* response) override {
    return Rerank(context, request, response, Admission());
  }
  grpc::ServerUnaryReactor* Rerank(grpc::CallbackServerContext* context, const v1::RerankRequest* request,
                                   v1::RerankResponse* response, const Admission& admission);

 private:
  class GenerateCall;
  class ResumeCall;
  class TextCall;

  // The model, or MODEL_NOT_FOUND with the names there are.
  std::optional<Error> FindModel(const std::string& name, ServedModelPtr* model) const;
  // The same for calls that are answered with vectors: DRAINING where nothing new is admitted.
  std::optional<Error> FindEncoder(const std::string& name, ServedModelPtr* model) const;
  // Answers `context` with what `answer` returns. It runs on the answer thread and may fill the response.
  grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context,
                                   std::function<grpc::Status(CoreReader&)> answer);
  // Embed and Rerank: `start` is what answers one.
  template <typename Request, typename Response, typename Start>
  grpc::ServerUnaryReactor* Encode(grpc::CallbackServerContext* context, const Request* request, Response* response,
                                   const Admission& admission, Start start);

  const Parts parts_;
  std::atomic<bool> admitting_{true};
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_INFERENCE_SERVICE_H_
