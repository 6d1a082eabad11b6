// From rows to what operators are shown, in the words of the protocol. Runs wherever a row is, but on the core's thread
// only for what a mutation has just changed.
#ifndef TANDEM_SCHEDULER_ROW_MESSAGES_H_
#define TANDEM_SCHEDULER_ROW_MESSAGES_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "scheduler/rows.h"
#include "tandem/v1/admin.pb.h"

namespace tandem::scheduler {

// Changes whenever what an operator would decide on changes: state, cordon, groups and process, not memory or age.
std::string Etag(const core::Device& device);
std::string Etag(const DeviceRow& device);
// Changes with every deploy and scale.
std::string Etag(const core::ModelSpec& spec);

// What a model's groups come to.
struct ModelAccount {
  std::vector<core::GroupId> groups;  // in order of their ids
  int ready = 0, old = 0;             // old: of an earlier shape, and serving
  int64_t requests = 0;
  int states[5] = {};  // groups, by core::GroupState
};
// By model.
std::map<core::ModelId, ModelAccount> AccountsOf(const std::vector<GroupNumbers>& groups);
// Of a model without a group: nothing.
const ModelAccount& AccountOf(const std::map<core::ModelId, ModelAccount>& accounts, core::ModelId model);

// Who asks for it need not fear to be refused: a replica is ready, or it sleeps.
bool IsReady(const ModelRow& model, const ModelAccount& account);
// Undeployed, and nothing of it is left.
bool IsOver(const ModelRow& model, const ModelAccount& account);

v1::Device DeviceFrom(const DeviceRow& device);
v1::Device DeviceFrom(const core::ClusterState& state, const core::Device& device);
v1::Group GroupFrom(const GroupRow& group);
v1::Model ModelFrom(const ModelRow& model, const ModelAccount& account);
v1::Model ModelFrom(const core::ClusterState& state, const core::Model& model);
// `ahead`: how many of its model's queue are served before it.
v1::Request RequestFrom(const RequestRow& request, uint32_t ahead);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_ROW_MESSAGES_H_
