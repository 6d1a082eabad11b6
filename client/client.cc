#include "client/client.h"

#include <utility>

#include "client/channel.h"
#include "client/token_stream_impl.h"
#include "tandem/v1/inference.grpc.pb.h"

namespace tandem::client {

struct Client::Impl {
  ClientOptions options;
  std::shared_ptr<grpc::Channel> channel;
  std::shared_ptr<v1::InferenceService::Stub> stub;

  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (v1::InferenceService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                                   Response*),
                                const Request& request) {
    grpc::ClientContext context;
    SetDeadline(context, absl::Now() + options.call_timeout);
    Response response;
    const absl::Status status = FromGrpc(((*stub).*method)(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }
};

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const std::string& address, const ClientOptions& options) {
  auto channel = OpenChannel(address, options.dialer, options.connect_timeout);
  if (!channel.ok()) return channel.status();
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->channel = *channel;
  impl->stub = v1::InferenceService::NewStub(*channel);
  return std::unique_ptr<Client>(new Client(std::move(impl)));
}

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;

TokenStream Client::Generate(v1::GenerateRequest request, GenerateOptions options) {
  return TokenStream(
      std::make_unique<TokenStream::Impl>(impl_->channel, impl_->stub, std::move(request), std::move(options)));
}

absl::StatusOr<v1::EmbedResponse> Client::Embed(const v1::EmbedRequest& request) {
  return impl_->Call(&v1::InferenceService::Stub::Embed, request);
}

absl::StatusOr<v1::RerankResponse> Client::Rerank(const v1::RerankRequest& request) {
  return impl_->Call(&v1::InferenceService::Stub::Rerank, request);
}

absl::StatusOr<v1::TokenizeResponse> Client::Tokenize(const v1::TokenizeRequest& request) {
  return impl_->Call(&v1::InferenceService::Stub::Tokenize, request);
}

absl::StatusOr<v1::DetokenizeResponse> Client::Detokenize(const v1::DetokenizeRequest& request) {
  return impl_->Call(&v1::InferenceService::Stub::Detokenize, request);
}

absl::StatusOr<v1::ListModelsResponse> Client::ListModels() {
  return impl_->Call(&v1::InferenceService::Stub::ListModels, v1::ListModelsRequest());
}

absl::StatusOr<std::vector<std::string>> Client::Abort(const std::vector<std::string>& request_ids,
                                                       const std::string& tenant) {
  v1::AbortRequest request;
  request.set_tenant(tenant);
  for (const std::string& id : request_ids) request.add_request_ids(id);
  const auto response = impl_->Call(&v1::InferenceService::Stub::Abort, request);
  if (!response.ok()) return response.status();
  return std::vector<std::string>(response->aborted().begin(), response->aborted().end());
}

}  // namespace tandem::client
