// What operators make of models at run time: deploy, undeploy, scale.
//
// One change after the other, on a thread of its own: it reads the model's files (a tokenizer takes a second), checks
// the change against the core as it is then, writes it to the store, changes the catalog, and tells the core. Nobody
// else adds to the catalog, so the id that it gives a model is the id that the core gives it.
//
// The configuration file is the base, and what is done here lies on top of it, over restarts: a row of the store per
// model (store::Deployment). It holds until the file's own entry of that model changes: the later word counts.
#ifndef TANDEM_SCHEDULER_DEPLOYMENTS_H_
#define TANDEM_SCHEDULER_DEPLOYMENTS_H_

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/model/model_folder.h"
#include "config/cluster_config.h"
#include "scheduler/core_loop.h"
#include "scheduler/grpc_error.h"
#include "scheduler/intent_keeper.h"
#include "scheduler/model_catalog.h"
#include "scheduler/operations.h"
#include "scheduler/store/store_thread.h"
#include "tandem/v1/admin.pb.h"

namespace tandem::scheduler {

// The models of a start: the file's, with what the store has on top.
struct DeployedModels {
  std::vector<config::ModelConfig> models;  // in the file's order, then those of run time by name
  std::vector<std::string> run_time;        // names in `models` that are as the store has them
  std::vector<std::string> superseded;      // rows that no longer count, to be forgotten
  std::vector<std::string> told;            // a sentence on each row that counts no longer, or not as it stands
};
// A name has one owner: one that a row shares with the file, which has changed since, is the file's.
DeployedModels ApplyDeployments(const std::vector<config::ModelConfig>& file,
                                const std::vector<store::Deployment>& rows);

class Deployments {
 public:
  struct Parts {
    CoreLoop* core;
    ModelCatalog* catalog;
    Operations* operations;
    IntentKeeper* intents;
    store::StoreThread* store;
  };
  struct Settings {
    model::FolderSearch search;
    std::vector<config::ModelConfig> file;  // the base
  };
  Deployments(Parts parts, Settings settings, const std::vector<store::Deployment>& rows);
  ~Deployments();

  void Start();
  // Ends the change under way; those that wait are refused. The core must still run.
  void Stop();

  // A change that was checked and not made yet.
  struct Change {
    std::string verb;
    std::string name;
    v1::Mutation mutation;
    std::optional<config::ModelConfig> config;    // deploy
    std::optional<std::pair<int, int>> replicas;  // scale
  };
  // Any thread. `refused` is called with a status that is not OK, or `valid` with the model's id and what is wanted of
  // it then, and nothing is changed.
  using Refused = std::function<void(const grpc::Status&)>;
  using Valid = std::function<void(const core::ModelSpec&)>;
  void Validate(Change change, Refused refused, Valid valid);
  // Any thread. How it ends is told to the operation's followers.
  void Make(Change change, core::OperationId operation);

 private:
  // Where a change applies, as the core has it.
  struct Target {
    core::ModelId id;
    bool fresh = false;  // a name that nobody has
    ServedModel served;  // as it is to be
  };
  bool Post(std::function<void()> job);
  void Run();
  // Reads the files, then asks the core's state whether it can be.
  absl::StatusOr<Target> Prepare(const Change& change, Error* error);
  // On the core's thread: why the change may not be made of `state`; else whom it concerns is in `target`.
  static std::optional<Error> Check(const core::ClusterState& state, const Change& change, Target* target);
  // The same of what was read from files; `model` is the one that has the name now, null: none.
  static std::optional<Error> CheckShape(const core::ClusterState& state, const core::Model* model,
                                         const Target& target);
  void CarryOut(const Change& change, core::OperationId operation);
  // The row that says so; and what the store has to forget instead where the file says the same.
  store::Batch RowFor(const Change& change, const Target& target) const;
  std::string BaseOf(const std::string& name) const;

  const Parts parts_;
  const Settings settings_;
  std::thread thread_;
  std::map<std::string, store::Deployment> rows_;  // of the thread

  absl::Mutex mu_;
  absl::CondVar arrived_;
  std::deque<std::function<void()>> jobs_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
};

// INVALID_ARGUMENT names the field. `spec` goes through the same rows as a file's entry.
absl::StatusOr<config::ModelConfig> ModelConfigFrom(const v1::ModelSpec& spec);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_DEPLOYMENTS_H_
