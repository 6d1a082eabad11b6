#include "client/admin_client.h"

#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/channel.h"
#include "tandem/v1/admin.grpc.pb.h"

namespace tandem::client {

using Stub = v1::AdminService::Stub;

struct AdminClient::Impl {
  ClientOptions options;
  std::unique_ptr<Stub> stub;

  absl::Mutex mu;
  bool cancelled ABSL_GUARDED_BY(mu) = false;
  std::set<grpc::ClientContext*> calls ABSL_GUARDED_BY(mu);

  // Makes a context known to CancelAll() for the length of a call.
  class Registered {
   public:
    Registered(Impl& impl, grpc::ClientContext& context) : impl_(impl), context_(context) {
      absl::MutexLock lock(&impl_.mu);
      impl_.calls.insert(&context_);
      if (impl_.cancelled) context_.TryCancel();
    }
    ~Registered() {
      absl::MutexLock lock(&impl_.mu);
      impl_.calls.erase(&context_);
    }

   private:
    Impl& impl_;
    grpc::ClientContext& context_;
  };

  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                                const Request& request) {
    grpc::ClientContext context;
    SetDeadline(context, absl::Now() + options.call_timeout);
    const Registered registered(*this, context);
    Response response;
    const absl::Status status = FromGrpc(((*stub).*method)(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }

  // All pages of a list, as if they were one.
  template <typename Response, typename Request>
  absl::StatusOr<Response> AllPages(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                                    Request request) {
    Response whole;
    do {
      request.set_page_token(whole.next_page_token());
      const absl::StatusOr<Response> page = Call(method, request);
      if (!page.ok()) return page.status();
      whole.clear_next_page_token();
      whole.MergeFrom(*page);
    } while (!whole.next_page_token().empty());
    return whole;
  }

  template <typename Request, typename Response, typename OnMessage>
  absl::Status Stream(std::unique_ptr<grpc::ClientReader<Response>> (Stub::*method)(grpc::ClientContext*,
                                                                                    const Request&),
                      const Request& request, const OnMessage& on_message) {
    grpc::ClientContext context;
    const Registered registered(*this, context);
    const auto reader = ((*stub).*method)(&context, request);
    for (Response response; reader->Read(&response); response.Clear()) on_message(response);
    return FromGrpc(reader->Finish());
  }
};

namespace {

template <typename Request>
Request Named(const std::string& name) {
  Request request;
  request.set_name(name);
  return request;
}

}  // namespace

absl::StatusOr<std::unique_ptr<AdminClient>> AdminClient::Connect(const std::string& address,
                                                                  const ClientOptions& options) {
  auto channel = OpenChannel(address, options.dialer, options.connect_timeout);
  if (!channel.ok()) return channel.status();
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->stub = v1::AdminService::NewStub(*channel);
  return std::unique_ptr<AdminClient>(new AdminClient(std::move(impl)));
}

AdminClient::AdminClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
AdminClient::~AdminClient() = default;

absl::StatusOr<v1::GetStatusResponse> AdminClient::GetStatus() {
  return impl_->Call(&Stub::GetStatus, v1::GetStatusRequest());
}
absl::StatusOr<v1::ListNodesResponse> AdminClient::ListNodes() {
  return impl_->Call(&Stub::ListNodes, v1::ListNodesRequest());
}
absl::StatusOr<v1::ListDevicesResponse> AdminClient::ListDevices() {
  return impl_->AllPages<v1::ListDevicesResponse>(&Stub::ListDevices, v1::ListDevicesRequest());
}
absl::StatusOr<v1::Device> AdminClient::GetDevice(const std::string& name) {
  auto response = impl_->Call(&Stub::GetDevice, Named<v1::GetDeviceRequest>(name));
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_device());
}
absl::StatusOr<v1::ListGroupsResponse> AdminClient::ListGroups(bool all) {
  v1::ListGroupsRequest request;
  request.set_all(all);
  return impl_->AllPages<v1::ListGroupsResponse>(&Stub::ListGroups, request);
}
absl::StatusOr<v1::Group> AdminClient::GetGroup(const std::string& name) {
  auto response = impl_->Call(&Stub::GetGroup, Named<v1::GetGroupRequest>(name));
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_group());
}
absl::StatusOr<v1::AdminServiceListModelsResponse> AdminClient::ListModels() {
  return impl_->Call(&Stub::ListModels, v1::AdminServiceListModelsRequest());
}
absl::StatusOr<v1::Model> AdminClient::GetModel(const std::string& name) {
  auto response = impl_->Call(&Stub::GetModel, Named<v1::GetModelRequest>(name));
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_model());
}
absl::StatusOr<v1::ListRequestsResponse> AdminClient::ListRequests(bool all) {
  v1::ListRequestsRequest request;
  request.set_all(all);
  return impl_->AllPages<v1::ListRequestsResponse>(&Stub::ListRequests, request);
}
absl::StatusOr<v1::Request> AdminClient::GetRequest(const std::string& name) {
  auto response = impl_->Call(&Stub::GetRequest, Named<v1::GetRequestRequest>(name));
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_request());
}

absl::StatusOr<v1::CordonDeviceResponse> AdminClient::CordonDevice(const v1::CordonDeviceRequest& request) {
  return impl_->Call(&Stub::CordonDevice, request);
}
absl::StatusOr<v1::UncordonDeviceResponse> AdminClient::UncordonDevice(const v1::UncordonDeviceRequest& request) {
  return impl_->Call(&Stub::UncordonDevice, request);
}
absl::StatusOr<v1::CordonNodeResponse> AdminClient::CordonNode(const v1::CordonNodeRequest& request) {
  return impl_->Call(&Stub::CordonNode, request);
}
absl::StatusOr<v1::UncordonNodeResponse> AdminClient::UncordonNode(const v1::UncordonNodeRequest& request) {
  return impl_->Call(&Stub::UncordonNode, request);
}
absl::StatusOr<v1::UndrainDeviceResponse> AdminClient::UndrainDevice(const v1::UndrainDeviceRequest& request) {
  return impl_->Call(&Stub::UndrainDevice, request);
}
absl::StatusOr<v1::UndrainNodeResponse> AdminClient::UndrainNode(const v1::UndrainNodeRequest& request) {
  return impl_->Call(&Stub::UndrainNode, request);
}

absl::StatusOr<v1::DeployModelResponse> AdminClient::DeployModel(const v1::DeployModelRequest& request) {
  return impl_->Call(&Stub::DeployModel, request);
}
absl::StatusOr<v1::UndeployModelResponse> AdminClient::UndeployModel(const v1::UndeployModelRequest& request) {
  return impl_->Call(&Stub::UndeployModel, request);
}
absl::StatusOr<v1::ScaleModelResponse> AdminClient::ScaleModel(const v1::ScaleModelRequest& request) {
  return impl_->Call(&Stub::ScaleModel, request);
}

absl::Status AdminClient::DrainDevice(const v1::DrainDeviceRequest& request, const OnProgress& on_progress) {
  return impl_->Stream(&Stub::DrainDevice, request, [&](const auto& message) { on_progress(message.progress()); });
}
absl::Status AdminClient::DrainNode(const v1::DrainNodeRequest& request, const OnProgress& on_progress) {
  return impl_->Stream(&Stub::DrainNode, request, [&](const auto& message) { on_progress(message.progress()); });
}
absl::Status AdminClient::DrainGroup(const v1::DrainGroupRequest& request, const OnProgress& on_progress) {
  return impl_->Stream(&Stub::DrainGroup, request, [&](const auto& message) { on_progress(message.progress()); });
}
absl::Status AdminClient::WatchEvents(uint64_t from_sequence, const std::function<void(const v1::Event&)>& on_event) {
  v1::WatchEventsRequest request;
  request.set_from_sequence(from_sequence);
  return impl_->Stream(&Stub::WatchEvents, request, [&](const auto& message) { on_event(message.event()); });
}

absl::StatusOr<v1::ExplainRequestResponse> AdminClient::ExplainRequest(const std::string& name) {
  return impl_->Call(&Stub::ExplainRequest, Named<v1::ExplainRequestRequest>(name));
}
absl::StatusOr<v1::ExplainGroupResponse> AdminClient::ExplainGroup(const std::string& name) {
  return impl_->Call(&Stub::ExplainGroup, Named<v1::ExplainGroupRequest>(name));
}
absl::StatusOr<v1::ExplainModelResponse> AdminClient::ExplainModel(const std::string& name) {
  return impl_->Call(&Stub::ExplainModel, Named<v1::ExplainModelRequest>(name));
}
absl::StatusOr<v1::GetTopologyResponse> AdminClient::GetTopology() {
  return impl_->Call(&Stub::GetTopology, v1::GetTopologyRequest());
}

void AdminClient::CancelAll() {
  absl::MutexLock lock(&impl_->mu);
  impl_->cancelled = true;
  for (grpc::ClientContext* context : impl_->calls) context->TryCancel();
}

}  // namespace tandem::client
