// The door for operators. Reads are made by the answer thread of rows that the core's thread copies (rows.h); only what
// explains a decision is put into words between two steps of the core, which alone knows them. Mutations are events to
// the core, and are answered with what it made of them. Names are resolved against the state at that moment
// (name_resolver.h).
#ifndef TANDEM_SCHEDULER_ADMIN_SERVICE_H_
#define TANDEM_SCHEDULER_ADMIN_SERVICE_H_

#include <functional>
#include <string>
#include <vector>

#include "scheduler/answer_thread.h"
#include "scheduler/core_loop.h"
#include "scheduler/core_reader.h"
#include "scheduler/deployments.h"
#include "scheduler/event_log.h"
#include "scheduler/grpc_error.h"
#include "scheduler/intent_keeper.h"
#include "scheduler/operations.h"
#include "scheduler/security/admission.h"
#include "scheduler/store/store_thread.h"
#include "scheduler/worker_registry.h"
#include "tandem/v1/admin.grpc.pb.h"

namespace tandem::scheduler {

class AdminService final : public v1::AdminService::CallbackService {
 public:
  struct Parts {
    CoreLoop* core;
    WorkerRegistry* registry;
    EventLog* events;
    Operations* operations;
    IntentKeeper* intents;
    store::StoreThread* store;
    Deployments* deployments;
    AnswerThread* answers;
  };
  AdminService(Parts parts, std::string version);

  using Context = grpc::CallbackServerContext;
  using Unary = grpc::ServerUnaryReactor;

  // ---- reads (admin_service.cc)
  Unary* GetStatus(Context*, const v1::GetStatusRequest*, v1::GetStatusResponse*) override;
  Unary* ListNodes(Context*, const v1::ListNodesRequest*, v1::ListNodesResponse*) override;
  Unary* ListDevices(Context*, const v1::ListDevicesRequest*, v1::ListDevicesResponse*) override;
  Unary* GetDevice(Context*, const v1::GetDeviceRequest*, v1::GetDeviceResponse*) override;
  Unary* ListGroups(Context*, const v1::ListGroupsRequest*, v1::ListGroupsResponse*) override;
  Unary* GetGroup(Context*, const v1::GetGroupRequest*, v1::GetGroupResponse*) override;
  Unary* ListModels(Context*, const v1::AdminServiceListModelsRequest*, v1::AdminServiceListModelsResponse*) override;
  Unary* GetModel(Context*, const v1::GetModelRequest*, v1::GetModelResponse*) override;
  Unary* ListRequests(Context*, const v1::ListRequestsRequest*, v1::ListRequestsResponse*) override;
  Unary* GetRequest(Context*, const v1::GetRequestRequest*, v1::GetRequestResponse*) override;
  Unary* ExplainRequest(Context*, const v1::ExplainRequestRequest*, v1::ExplainRequestResponse*) override;
  Unary* ExplainGroup(Context*, const v1::ExplainGroupRequest*, v1::ExplainGroupResponse*) override;
  Unary* ExplainModel(Context*, const v1::ExplainModelRequest*, v1::ExplainModelResponse*) override;
  Unary* GetTopology(Context*, const v1::GetTopologyRequest*, v1::GetTopologyResponse*) override;

  // ---- mutations (admin_mutations.cc)
  Unary* CordonDevice(Context*, const v1::CordonDeviceRequest*, v1::CordonDeviceResponse*) override;
  Unary* UncordonDevice(Context*, const v1::UncordonDeviceRequest*, v1::UncordonDeviceResponse*) override;
  Unary* CordonNode(Context*, const v1::CordonNodeRequest*, v1::CordonNodeResponse*) override;
  Unary* UncordonNode(Context*, const v1::UncordonNodeRequest*, v1::UncordonNodeResponse*) override;
  Unary* UndrainDevice(Context*, const v1::UndrainDeviceRequest*, v1::UndrainDeviceResponse*) override;
  Unary* UndrainNode(Context*, const v1::UndrainNodeRequest*, v1::UndrainNodeResponse*) override;
  // ---- models (admin_models.cc)
  Unary* DeployModel(Context*, const v1::DeployModelRequest*, v1::DeployModelResponse*) override;
  Unary* UndeployModel(Context*, const v1::UndeployModelRequest*, v1::UndeployModelResponse*) override;
  Unary* ScaleModel(Context*, const v1::ScaleModelRequest*, v1::ScaleModelResponse*) override;

  // ---- streams (admin_streams.cc)
  grpc::ServerWriteReactor<v1::DrainDeviceResponse>* DrainDevice(Context*, const v1::DrainDeviceRequest*) override;
  grpc::ServerWriteReactor<v1::DrainNodeResponse>* DrainNode(Context*, const v1::DrainNodeRequest*) override;
  grpc::ServerWriteReactor<v1::DrainGroupResponse>* DrainGroup(Context*, const v1::DrainGroupRequest*) override;
  // Without an admission: from a door without roles.
  grpc::ServerWriteReactor<v1::WatchEventsResponse>* WatchEvents(Context* context,
                                                                 const v1::WatchEventsRequest* request) override {
    return WatchEvents(context, request, Admission());
  }
  grpc::ServerWriteReactor<v1::WatchEventsResponse>* WatchEvents(Context* context,
                                                                 const v1::WatchEventsRequest* request,
                                                                 const Admission& admission);

 private:
  // Answers `context` with what `answer` returns. It runs on the answer thread and may fill the response.
  Unary* Answer(Context* context, std::function<grpc::Status(CoreReader&)> answer);
  // Likewise on the core's thread, between two steps.
  Unary* Look(Context* context, std::function<grpc::Status(const core::Core&)> look);
  // One change of devices, as every verb but drain has it.
  struct Change {
    const char* verb;
    std::string request;  // RequestHash
    std::function<grpc::Status(const core::ClusterState&, const std::string& etag, std::vector<core::DeviceId>*)>
        resolve;
    std::function<core::Event(core::DeviceId)> make;
    std::function<void(const core::ClusterState&, const core::Device&)> show;
  };
  // Resolves on the core's thread, writes down what was asked, posts `make` of each device, and answers with `show` of
  // them. A call that came before with its key is not done again.
  Unary* ChangeDevices(Context* context, const v1::Mutation& mutation, Change change);
  void CarryOut(core::OperationId operation, const v1::Mutation& mutation, const Change& change,
                const core::ClusterState& state);

  using ShowModel = std::function<void(const core::ClusterState&, const core::Model&)>;
  // As ChangeDevices. `say` gets one sentence on what became of it.
  Unary* ChangeModel(Context* context, Deployments::Change change, const std::string& request, ShowModel show,
                     std::function<void(std::string)> say);

  const Parts parts_;
  const std::string version_;
  const core::Instant started_;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_ADMIN_SERVICE_H_
