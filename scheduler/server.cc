#include "scheduler/server.h"

#include <glog/logging.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/impl/server_builder_plugin.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/security/pem_files.h"
#include "scheduler/call_counter.h"
#include "scheduler/clock.h"
#include "scheduler/core_reader.h"
#include "scheduler/metrics_text.h"
#include "scheduler/queue_positions.h"
#include "scheduler/row_messages.h"
#include "scheduler/row_pages.h"
#include "scheduler/security/guarded_services.h"
#include "scheduler/security/server_credentials.h"
#include "scheduler/store/memory_store.h"

namespace tandem::scheduler {
namespace {

// A prompt of 10 MB fits; more is refused by gRPC before it is read.
constexpr int kClientReceiveBytes = 16 << 20;
// A worker's Hello lists what it holds, and a step's message the tokens of all its requests.
constexpr int kWorkerReceiveBytes = 16 << 20;
constexpr int kAdminReceiveBytes = 1 << 20;
// What is told to clients that are still there when the grace is over has to reach them.
constexpr auto kLastWords = std::chrono::seconds(3);
constexpr absl::Duration kProbePatience = absl::Seconds(2);
constexpr absl::Duration kLookAgain = absl::Milliseconds(10);
// A core that does not answer in kProbePatience is not ready, and its numbers are old.
MetricsDoor::Answer Behind() { return {503, "the scheduler is behind\n"}; }

// gRPC's reflection registers itself with every server as soon as its library is linked; this takes it out again.
class WithoutReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    std::erase_if(*plugins, [](const auto& plugin) { return plugin->name() == "proto_server_reflection"; });
  }
};

}  // namespace

Server::Server(ServerOptions options, ModelCatalog catalog, std::unique_ptr<Journal> journal, Kept kept)
    : options_(std::move(options)),
      catalog_(std::move(catalog)),
      journal_(std::move(journal)),
      snapshot_(std::move(kept.snapshot)),
      events_(options_.leader_epoch),
      intents_store_(kept.store != nullptr ? std::move(kept.store) : std::make_unique<store::MemoryStore>(), {},
                     [this](const absl::Status& status) { TellTrouble(status); }),
      operations_(options_.leader_epoch, snapshot_),
      intents_([this](store::Batch batch) { intents_store_.Keep(std::move(batch)); }, &operations_, snapshot_),
      store_(options_.store),
      reattachment_(&store_, options_.leader_epoch),
      pool_(options_.pool),
      runner_(
          {&catalog_, &registry_, &store_, &events_, &operations_, &intents_, &metrics_, &request_log_},
          options_.runner, [this](core::Event event) { core_.PostOwed(std::move(event)); },
          [this](const core::ClusterState& state) { TellHealth(state); }, [this] { reattachment_.OnSettled(); }),
      core_(options_.core, &runner_, journal_.get()),
      router_(&catalog_, &store_, &reattachment_, options_.router,
              {[this](core::Event event) { core_.PostOwed(std::move(event)); },
               [this](std::vector<std::shared_ptr<RequestStream>> waiting) { TellPositions(std::move(waiting)); },
               [this](core::DeviceId device, v1::AttachResponse command) {
                 if (const auto link = registry_.Find(device)) link->Send(std::move(command));
               },
               [this](core::Incarnation incarnation) { return registry_.DeviceOf(incarnation); }, &metrics_}),
      inference_({&catalog_, &core_, &store_, &router_, &pool_, &reattachment_, &metrics_, &request_log_, &answers_,
                  options_.cache_salt}),
      deployments_({&core_, &catalog_, &operations_, &intents_, &intents_store_}, options_.deployments,
                   snapshot_.deployments),
      workers_({options_.leader_epoch, options_.heartbeat_ms, options_.orphan_grace_ms,
                static_cast<uint32_t>(options_.store.retention.us / 1000)},
               {[this](core::Event&& event) { return core_.TryPost(std::move(event)); },
                [this](core::Event event) { core_.PostOwed(std::move(event)); }},
               &registry_, &router_, &reattachment_),
      admin_({&core_, &registry_, &events_, &operations_, &intents_, &intents_store_, &deployments_, &answers_},
             options_.version),
      core_pulse_([this](std::function<void()> answer) { AskCore(std::move(answer)); }),
      metrics_door_([this](const std::string& path) { return AnswerProbe(path); }),
      started_(Now()) {}

Server::~Server() { Shutdown(); }

absl::Status Server::Open(const Door& door) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(door.address, CredentialsOf(door.security, options_.security.refresh), door.port);
  builder.RegisterService(*door.guard != nullptr ? door.guard->get() : door.service);
  if (!options_.reflection) builder.SetOption(std::make_unique<WithoutReflection>());
  builder.SetMaxReceiveMessageSize(door.max_receive_bytes);
  // Two schedulers on one port would each get half of the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // A client may ping every 10 s, with or without a call: the default of 300 s closes the channel under long streams. A
  // worker does so every 5 s: what it waits for may never come on a line whose other end vanished.
  const int least_ping_ms = door.service == &workers_ ? 2500 : 10000;
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, least_ping_ms);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // The workers' door has few calls, and each step of a group is a message of one.
  if (door.service != &workers_) {
    std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> counters;
    counters.push_back(std::make_unique<CallCounterFactory>(&metrics_));
    builder.experimental().SetInterceptorCreators(std::move(counters));
  }
  *door.server = builder.BuildAndStart();
  if (*door.server == nullptr || *door.port == 0) {
    door.server->reset();
    return absl::UnavailableError(absl::StrCat("cannot listen for ", door.who, " on ", door.address,
                                               ": the port is in use, or the address is not of this machine"));
  }
  return absl::OkStatus();
}

absl::Status Server::OpenAll() {
  const config::SecurityConfig& security = options_.security;
  if (security.roles()) {
    auto authorizer = Authorizer::Open(security, &metrics_);
    if (!authorizer.ok()) return authorizer.status();
    authorizer_ = *std::move(authorizer);
    clients_guard_ = Guarded(&inference_, authorizer_.get());
    workers_guard_ = Guarded(&workers_, authorizer_.get());
    admin_guard_ = Guarded(&admin_, authorizer_.get());
  }
  const Door doors[] = {{"clients", options_.clients, security.clients, &inference_, &clients_guard_,
                         kClientReceiveBytes, &clients_server_, &clients_port_},
                        {"workers", options_.workers, security.workers, &workers_, &workers_guard_, kWorkerReceiveBytes,
                         &workers_server_, &workers_port_},
                        {"operators", options_.admin, security.admin, &admin_, &admin_guard_, kAdminReceiveBytes,
                         &admin_server_, &admin_port_}};
  for (const Door& door : doors) {
    if (absl::Status status = Open(door); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Server::Start() {
  if (!options_.detect_deadlocks) absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  grpc::EnableDefaultHealthCheckService(true);
  if (options_.reflection) grpc::reflection::InitProtoReflectionServerBuilderPlugin();

  core_.Start();
  answers_.Start();
  router_.Start();
  intents_store_.Start();
  deployments_.Start();
  PostRecollection();

  if (absl::Status status = OpenAll(); !status.ok()) return status;
  if (!options_.metrics.empty()) {  // nobody's request fails because nobody can count it
    if (absl::Status metrics = metrics_door_.Start(options_.metrics); !metrics.ok()) LOG(ERROR) << metrics.message();
  }
  open_ = true;
  core_.PostQuery([this](const core::Core& core) { TellHealth(core.state()); });
  return absl::OkStatus();
}

void Server::PostRecollection() {
  Recollection recollection = Recall(snapshot_, options_.leader_epoch, options_.expected_devices, absl::Now());
  core_.PostOwed(std::move(recollection.started));
  for (const ServedModelPtr& model : catalog_.models()) core_.PostOwed(core::ModelConfigured{model->spec});
  for (Unfinished& again : recollection.unfinished) {
    for (core::Event& event : again.events) core_.PostOwed(std::move(event));
    if (again.drain) continue;
    core_.PostOwedQuery([this, id = again.operation](const core::Core&) { intents_.Finished(id); });
  }
}

void Server::TellTrouble(const absl::Status& status) {
  if (status.ok()) {
    LOG(INFO) << "the store can be written again";
    events_.Append("scheduler", "the store can be written again; nothing that was owed to it is missing", Now());
  } else {
    LOG(ERROR) << "the store fails: " << status.message();
    events_.Append("scheduler",
                   "the store cannot be written: cordons and drains are refused until it can; what runs goes on",
                   Now());
  }
}

// ---- health -------------------------------------------------------------------------------------------------------

// A model is SERVING while it has a READY group, the service while every model has one, "" while the process serves.
void Server::TellHealth(const core::ClusterState& state) {
  if (!open_) return;
  absl::MutexLock lock(&health_mu_);
  if (stopping_) return;
  bool all = true;
  for (const core::Model& model : state.models) {
    const bool ready = !model.undeployed && state.IsReady(model);
    all = all && (ready || model.undeployed);
    if (!model.undeployed || !state.model_names.contains(model.spec.name)) SetHealth(model.spec.name, ready);
  }
  SetHealth("tandem.v1.InferenceService", all);
}

void Server::SetHealth(const std::string& service, bool serving) {
  const auto [it, first] = health_.try_emplace(service, serving);
  if (!first && it->second == serving) return;
  it->second = serving;
  for (const auto* server : {&clients_server_, &workers_server_, &admin_server_}) {
    (*server)->GetHealthCheckService()->SetServingStatus(service, serving);
  }
}

// ---- metrics and probes ---------------------------------------------------------------------------------------------

std::map<std::string, double> Server::CertificateEnds() const {
  std::map<std::string, double> ends;
  const config::SecurityConfig& security = options_.security;
  for (const auto& [name, door] : {std::pair{"clients", &security.clients}, std::pair{"workers", &security.workers},
                                   std::pair{"admin", &security.admin}}) {
    if (!door->encrypted()) continue;
    const auto facts = security::ReadCertificate(door->certificate);
    if (facts.ok()) ends[name] = absl::ToDoubleSeconds(facts->not_after - absl::UnixEpoch());
  }
  return ends;
}

MetricsDoor::Answer Server::AnswerProbe(const std::string& path) {
  const bool known = path == "/metrics" || path == "/health" || path == "/health/live" || path == "/health/ready";
  if (!known) return {404, "there are /metrics, /health/live and /health/ready\n"};
  if (path == "/health/live") {
    const absl::Duration owed = absl::FromChrono(core_pulse_.Take());
    if (owed < options_.live_within) return {200, "live\n"};
    return {503, absl::StrCat("the core has not come round for ", absl::FormatDuration(owed), "\n")};
  }
  return path == "/metrics" ? AnswerMetrics() : AnswerReady();
}

MetricsDoor::Answer Server::AnswerMetrics() {
  CoreReader reader([this](CoreReader::Query query) { return core_.PostQuery(std::move(query)); }, kProbePatience);
  const auto seen = TakeMetrics(reader);
  if (!seen) return Behind();
  const MetricsFacts facts{.version = options_.version,
                           .uptime_seconds = static_cast<double>((Now() - started_).us) / 1e6,
                           .vllm = options_.vllm_metrics,
                           .certificate_ends = CertificateEnds(),
                           .stale_updates = router_.stale_updates(),
                           .slow_clients = router_.slow_clients().dropped()};
  return {200, MetricsText(*seen, metrics_.Read(), facts)};
}

MetricsDoor::Answer Server::AnswerReady() {
  CoreReader reader([this](CoreReader::Query query) { return core_.PostQuery(std::move(query)); }, kProbePatience);
  const auto groups = Read(reader, TakeGroupNumbers);
  const auto models = Read(reader, TakeModels);
  if (!groups || !models) return Behind();
  const auto accounts = AccountsOf(groups->rows);
  std::string missing;
  for (const ModelRow& model : models->rows) {
    if (!model.undeployed && !IsReady(model, AccountOf(accounts, model.id))) {
      absl::StrAppend(&missing, model.spec.name, "\n");
    }
  }
  if (missing.empty() && !stopping_) return {200, "ready\n"};
  return {503, absl::StrCat("not ready\n", missing)};
}

void Server::TellPositions(std::vector<std::shared_ptr<RequestStream>> waiting) {
  core_.PostQuery([this, waiting = std::move(waiting)](const core::Core& core) {
    const auto positions = std::make_shared<StreamPositions>();
    positions->Take(core.state(), waiting);
    answers_.Post([positions] { positions->Tell(); });  // who is not told now is told next time
  });
}

// ---- the end ------------------------------------------------------------------------------------------------------

void Server::AskCore(std::function<void()> answer) {
  core_.PostOwedQuery([answer = std::move(answer)](const core::Core&) { answer(); });
}

void Server::Drain(absl::Duration grace, const std::function<bool()>& hurried) {
  if (stopping_.exchange(true)) return;
  inference_.StopAdmitting();
  reattachment_.Close();
  {
    absl::MutexLock lock(&health_mu_);
    for (const auto* server : {&clients_server_, &workers_server_, &admin_server_}) {
      if (*server != nullptr) (*server)->GetHealthCheckService()->SetServingStatus(false);
    }
  }
  const core::Instant until = Now() + core::Duration{absl::ToInt64Microseconds(grace)};
  while (store_.living() > 0 && Now() < until && !(hurried && hurried())) absl::SleepFor(kLookAgain);
  const auto left = store_.Living();
  if (!left.empty()) LOG(WARNING) << left.size() << " requests are cut off by the shutdown";
  for (const auto& stream : left) {
    stream->Fail({kDraining, "this scheduler shut down before the request had ended", core::Seconds(5)});
  }
}

void Server::Shutdown() {
  if (ended_.exchange(true)) return;
  Drain(absl::ZeroDuration());
  // Each stream still open gets kLastWords to take its end. Workers keep what they hold and dial again.
  const auto last_words = std::chrono::system_clock::now() + kLastWords;
  std::vector<std::thread> closing;
  for (auto* server : {&clients_server_, &admin_server_, &workers_server_}) {
    if (*server == nullptr) continue;
    closing.emplace_back([server, last_words] {
      (*server)->Shutdown(last_words);
      (*server)->Wait();
    });
  }
  for (const auto& worker : registry_.All()) worker->Close(absl::UnavailableError("the scheduler is shutting down"));
  deployments_.Stop();
  metrics_door_.Stop();
  for (std::thread& thread : closing) thread.join();
  pool_.Stop();
  router_.Stop();
  answers_.Stop();
  core_.Stop();
  intents_store_.Stop();
}

}  // namespace tandem::scheduler
