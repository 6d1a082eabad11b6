#include "client/async_client.h"

#include <utility>

#include "client/async_stream_impl.h"
#include "client/channel.h"

namespace tandem::client {
namespace {

// One unary call; gRPC's completion holds it.
template <typename Request, typename Response>
struct UnaryCall {
  explicit UnaryCall(AsyncLink* l) : link(l) {}

  const CallToken link;
  grpc::ClientContext context;
  Request request;
  Response response;
  AsyncClient::Handler<Response> handler;
};

using Async = class v1::InferenceService::Stub::async;  // a function has that name too

template <typename Request, typename Response>
AsyncClient::Canceller Start(AsyncLink* link,
                             void (Async::*method)(grpc::ClientContext*, const Request*, Response*,
                                                   std::function<void(grpc::Status)>),
                             Request request, const CallOptions& options, AsyncClient::Handler<Response> handler) {
  auto call = std::make_shared<UnaryCall<Request, Response>>(link);
  call->request = std::move(request);
  call->handler = std::move(handler);
  SetDeadline(call->context, absl::Now() + options.timeout);
  AddMetadata(call->context, options.metadata);
  (link->stub->async()->*method)(&call->context, &call->request, &call->response, [call](const grpc::Status& status) {
    // The handler may hold what owns the canceller; it is let go of with its call.
    const auto answer = std::move(call->handler);
    if (status.ok()) return answer(std::move(call->response));
    answer(FromGrpc(status));
  });
  return [weak = std::weak_ptr(call)] {
    if (const auto running = weak.lock()) running->context.TryCancel();
  };
}

}  // namespace

struct AsyncClient::Impl {
  AsyncLink link;
};

AsyncClient::AsyncClient(const std::string& address, const security::Dialer& dialer) : impl_(std::make_unique<Impl>()) {
  impl_->link.channel = MakeChannel(address, dialer);
  impl_->link.stub = v1::InferenceService::NewStub(impl_->link.channel);
}

AsyncClient::~AsyncClient() {
  absl::MutexLock lock(&impl_->link.mu);
  impl_->link.mu.Await(absl::Condition(
      +[](int* calls) { return *calls == 0; }, &impl_->link.calls));
}

AsyncStream AsyncClient::Generate(v1::GenerateRequest request, GenerateOptions options,
                                  std::function<void(StreamEvent)> handler) {
  return AsyncStream(
      std::make_shared<AsyncStream::Impl>(&impl_->link, std::move(request), std::move(options), std::move(handler)));
}

AsyncClient::Canceller AsyncClient::Tokenize(v1::TokenizeRequest request, CallOptions options,
                                             Handler<v1::TokenizeResponse> handler) {
  return Start<v1::TokenizeRequest, v1::TokenizeResponse>(&impl_->link, &Async::Tokenize, std::move(request), options,
                                                          std::move(handler));
}
AsyncClient::Canceller AsyncClient::Detokenize(v1::DetokenizeRequest request, CallOptions options,
                                               Handler<v1::DetokenizeResponse> handler) {
  return Start<v1::DetokenizeRequest, v1::DetokenizeResponse>(&impl_->link, &Async::Detokenize, std::move(request),
                                                              options, std::move(handler));
}
AsyncClient::Canceller AsyncClient::Embed(v1::EmbedRequest request, CallOptions options,
                                          Handler<v1::EmbedResponse> handler) {
  return Start<v1::EmbedRequest, v1::EmbedResponse>(&impl_->link, &Async::Embed, std::move(request), options,
                                                    std::move(handler));
}
AsyncClient::Canceller AsyncClient::Rerank(v1::RerankRequest request, CallOptions options,
                                           Handler<v1::RerankResponse> handler) {
  return Start<v1::RerankRequest, v1::RerankResponse>(&impl_->link, &Async::Rerank, std::move(request), options,
                                                      std::move(handler));
}
AsyncClient::Canceller AsyncClient::GetMetrics(v1::GetMetricsRequest request, CallOptions options,
                                               Handler<v1::GetMetricsResponse> handler) {
  return Start<v1::GetMetricsRequest, v1::GetMetricsResponse>(&impl_->link, &Async::GetMetrics, std::move(request),
                                                              options, std::move(handler));
}
AsyncClient::Canceller AsyncClient::ListModels(v1::ListModelsRequest request, CallOptions options,
                                               Handler<v1::ListModelsResponse> handler) {
  return Start<v1::ListModelsRequest, v1::ListModelsResponse>(&impl_->link, &Async::ListModels, std::move(request),
                                                              options, std::move(handler));
}

}  // namespace tandem::client
