// One scheduler, put together: core, router, services, and a gRPC server behind each of its three doors (clients,
// workers, operators). main.cc makes one from flags and files, tests make one from parts.
#ifndef TANDEM_SCHEDULER_SERVER_H_
#define TANDEM_SCHEDULER_SERVER_H_

#include <grpcpp/server.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/notify/pulse.h"
#include "config/cluster_config.h"
#include "scheduler/action_runner.h"
#include "scheduler/admin_service.h"
#include "scheduler/answer_thread.h"
#include "scheduler/core_loop.h"
#include "scheduler/deployments.h"
#include "scheduler/event_log.h"
#include "scheduler/inference_service.h"
#include "scheduler/intent_keeper.h"
#include "scheduler/journal.h"
#include "scheduler/metrics_door.h"
#include "scheduler/model_catalog.h"
#include "scheduler/operations.h"
#include "scheduler/reattachment.h"
#include "scheduler/request_metrics.h"
#include "scheduler/request_store.h"
#include "scheduler/security/authorizer.h"
#include "scheduler/store/store.h"
#include "scheduler/store/store_thread.h"
#include "scheduler/token_router.h"
#include "scheduler/tokenizer_pool.h"
#include "scheduler/worker_registry.h"
#include "scheduler/worker_service.h"

namespace tandem::scheduler {

struct ServerOptions {
  // HOST:PORT; port 0 takes any free one.
  std::string clients = "127.0.0.1:50051";
  std::string workers = "127.0.0.1:50061";
  std::string admin = "127.0.0.1:50052";
  std::string metrics;  // empty: no door for metrics
  config::SecurityConfig security;
  bool vllm_metrics = false;
  bool reflection = true;  // gRPC tells which services there are
  uint64_t leader_epoch = 1;
  int expected_devices = 0;
  std::string version;
  std::string cache_salt;
  core::CoreOptions core;
  TokenRouter::Times router;
  RequestStore::Limits store;
  TokenizerPool::Limits pool;
  ActionRunner::Settings runner;
  Deployments::Settings deployments;
  // Debian's abseil looks for cycles among locks in every build, for a tenth of our CPU; tests leave it on.
  bool detect_deadlocks = false;
  uint32_t heartbeat_ms = 500;
  absl::Duration live_within = absl::Seconds(10);  // a core that owes an answer for so long is stuck
  uint32_t orphan_grace_ms = 60000;
};

class Server {
 public:
  // What outlives this run, and what it found there. Without a store it is kept in memory.
  struct Kept {
    std::unique_ptr<store::Store> store;
    store::Snapshot snapshot;
  };
  // `journal` may be null.
  Server(ServerOptions options, ModelCatalog catalog, std::unique_ptr<Journal> journal, Kept kept = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Opens the doors. An error names the address that could not be taken.
  absl::Status Start();

  // Health says NOT_SERVING and new requests are refused; those that run get `grace` to end, or until `hurried` says
  // so, then their clients are told. Returns when nothing runs. A second call does nothing.
  void Drain(absl::Duration grace, const std::function<bool()>& hurried = nullptr);
  // Drains without any grace, unless that was done, and returns when all threads have ended. A second call does
  // nothing.
  void Shutdown();

  int clients_port() const { return clients_port_; }
  int workers_port() const { return workers_port_; }
  int admin_port() const { return admin_port_; }
  int metrics_port() const { return metrics_door_.port(); }

  // Has `answer` called on the thread of the core, between two steps.
  void AskCore(std::function<void()> answer);

  CoreLoop& core() { return core_; }
  RequestStore& store() { return store_; }
  EventLog& events() { return events_; }

 private:
  // How a door is opened. `guard` keeps the service that stands in it before `service`, where there are roles.
  struct Door {
    const char* who;
    const std::string& address;
    const security::DoorSettings& security;
    grpc::Service* service;
    std::unique_ptr<grpc::Service>* guard;
    int max_receive_bytes;
    std::unique_ptr<grpc::Server>* server;
    int* port;
  };
  absl::Status Open(const Door& door);
  absl::Status OpenAll();
  // The first events of the run: what the last one left.
  void PostRecollection();
  void TellTrouble(const absl::Status& status);
  void TellHealth(const core::ClusterState& state);
  // Of the doors that speak TLS, as their files are now; reads them.
  std::map<std::string, double> CertificateEnds() const;
  // For the door of metrics and probes.
  MetricsDoor::Answer AnswerProbe(const std::string& path);
  MetricsDoor::Answer AnswerMetrics();
  MetricsDoor::Answer AnswerReady();
  // What those clients who wait are told of their place, by and by.
  void TellPositions(std::vector<std::shared_ptr<RequestStream>> waiting);
  void SetHealth(const std::string& service, bool serving) ABSL_EXCLUSIVE_LOCKS_REQUIRED(health_mu_);

  const ServerOptions options_;
  ModelCatalog catalog_;
  const std::unique_ptr<Journal> journal_;
  const store::Snapshot snapshot_;

  // In the order of dependence: what is below uses what is above.
  EventLog events_;
  store::StoreThread intents_store_;
  Operations operations_;
  IntentKeeper intents_;
  WorkerRegistry registry_;
  RequestMetrics metrics_;
  RequestLog request_log_{&metrics_};
  RequestStore store_;
  Reattachment reattachment_;
  TokenizerPool pool_;
  ActionRunner runner_;
  CoreLoop core_;
  AnswerThread answers_;
  TokenRouter router_;
  InferenceService inference_;
  Deployments deployments_;
  WorkerService workers_;
  AdminService admin_;

  std::unique_ptr<Authorizer> authorizer_;  // null: no roles, and no guards
  std::unique_ptr<grpc::Service> clients_guard_, workers_guard_, admin_guard_;
  std::unique_ptr<grpc::Server> clients_server_, workers_server_, admin_server_;
  int clients_port_ = 0, workers_port_ = 0, admin_port_ = 0;
  std::atomic<bool> open_{false};      // all three are
  std::atomic<bool> stopping_{false};  // since Drain
  std::atomic<bool> ended_{false};     // since Shutdown
  Pulse core_pulse_;
  absl::Mutex health_mu_;  // so that nothing is called SERVING after Shutdown said otherwise
  MetricsDoor metrics_door_;
  const core::Instant started_;
  std::map<std::string, bool> health_ ABSL_GUARDED_BY(health_mu_);  // as last told
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_SERVER_H_
