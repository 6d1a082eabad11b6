// Typed calls to the AdminService, for the command line and for operators' own programs.
//
// Requests and answers are the messages of proto/tandem/v1/admin.proto. Safe for any number of threads.
#ifndef TANDEM_CLIENT_ADMIN_CLIENT_H_
#define TANDEM_CLIENT_ADMIN_CLIENT_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "tandem/v1/admin.pb.h"

namespace tandem::client {

class AdminClient {
 public:
  // "127.0.0.1:50052". UNAVAILABLE at once if nobody listens there.
  static absl::StatusOr<std::unique_ptr<AdminClient>> Connect(const std::string& address,
                                                              const ClientOptions& options = {});
  ~AdminClient();

  absl::StatusOr<v1::GetStatusResponse> GetStatus();
  absl::StatusOr<v1::ListNodesResponse> ListNodes();
  absl::StatusOr<v1::ListDevicesResponse> ListDevices();
  absl::StatusOr<v1::Device> GetDevice(const std::string& name);
  absl::StatusOr<v1::ListGroupsResponse> ListGroups(bool all);
  absl::StatusOr<v1::Group> GetGroup(const std::string& name);
  absl::StatusOr<v1::AdminServiceListModelsResponse> ListModels();
  absl::StatusOr<v1::Model> GetModel(const std::string& name);
  absl::StatusOr<v1::ListRequestsResponse> ListRequests(bool all);
  absl::StatusOr<v1::Request> GetRequest(const std::string& name);

  absl::StatusOr<v1::CordonDeviceResponse> CordonDevice(const v1::CordonDeviceRequest& request);
  absl::StatusOr<v1::UncordonDeviceResponse> UncordonDevice(const v1::UncordonDeviceRequest& request);
  absl::StatusOr<v1::CordonNodeResponse> CordonNode(const v1::CordonNodeRequest& request);
  absl::StatusOr<v1::UncordonNodeResponse> UncordonNode(const v1::UncordonNodeRequest& request);
  absl::StatusOr<v1::UndrainDeviceResponse> UndrainDevice(const v1::UndrainDeviceRequest& request);
  absl::StatusOr<v1::UndrainNodeResponse> UndrainNode(const v1::UndrainNodeRequest& request);

  absl::StatusOr<v1::DeployModelResponse> DeployModel(const v1::DeployModelRequest& request);
  absl::StatusOr<v1::UndeployModelResponse> UndeployModel(const v1::UndeployModelRequest& request);
  absl::StatusOr<v1::ScaleModelResponse> ScaleModel(const v1::ScaleModelRequest& request);

  // Streams: they block until the scheduler ends them, with one callback a message on this thread. Leaving a drain does
  // not undo it.
  using OnProgress = std::function<void(const v1::DrainProgress&)>;
  absl::Status DrainDevice(const v1::DrainDeviceRequest& request, const OnProgress& on_progress);
  absl::Status DrainNode(const v1::DrainNodeRequest& request, const OnProgress& on_progress);
  absl::Status DrainGroup(const v1::DrainGroupRequest& request, const OnProgress& on_progress);
  // From number `from_sequence` on; 0 = from now on.
  absl::Status WatchEvents(uint64_t from_sequence, const std::function<void(const v1::Event&)>& on_event);

  absl::StatusOr<v1::ExplainRequestResponse> ExplainRequest(const std::string& name);
  absl::StatusOr<v1::ExplainGroupResponse> ExplainGroup(const std::string& name);
  absl::StatusOr<v1::ExplainModelResponse> ExplainModel(const std::string& name);
  absl::StatusOr<v1::GetTopologyResponse> GetTopology();

  // Ends every call that is in flight, and every later one, with CANCELLED.
  void CancelAll();

 private:
  struct Impl;
  explicit AdminClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::client

#endif  // TANDEM_CLIENT_ADMIN_CLIENT_H_
