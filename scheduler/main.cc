// tandem-scheduler: flags and files in, one Server out, until a signal ends it.
#include <glog/logging.h>
#include <grpc/support/log.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/descriptor_limit.h"
#include "base/model/model_folder.h"
#include "base/notify/life_signs.h"
#include "config/cluster_config.h"
#include "config/device_health.h"
#include "config/endpoint.h"
#include "config/security_rules.h"
#include "config/service_program.h"
#include "scheduler/ids.h"
#include "scheduler/leader_epoch.h"
#include "scheduler/model_report.h"
#include "scheduler/server.h"
#include "scheduler/store/sqlite_store.h"

namespace tandem::scheduler {
namespace {

constexpr char kVersion[] = TANDEM_VERSION;

// Opens the store behind the lock of `epoch`, and writes down that this run leads.
absl::StatusOr<Server::Kept> OpenStore(const std::string& state_dir, uint64_t epoch) {
  const std::string path = state_dir + "/tandem.db";
  auto store = store::SqliteStore::Open(path);
  if (!store.ok()) return store.status();
  auto snapshot = (*store)->Load();
  if (!snapshot.ok()) return snapshot.status();
  if (snapshot->leader_epoch >= epoch) {
    return absl::DataLossError(absl::StrCat(
        path, " knows a leader epoch of ", snapshot->leader_epoch, " and ", state_dir, "/leader_epoch gave ", epoch,
        ": one of them is from a backup; write ", snapshot->leader_epoch, " into leader_epoch and start again"));
  }
  store::Batch mine;
  mine.leader_epoch = epoch;
  if (absl::Status status = (*store)->Commit(mine); !status.ok()) return status;
  return Server::Kept{*std::move(store), *std::move(snapshot)};
}

// The file's models with what was made of them at run time. What was deployed at run time and cannot be read now is
// left out and said: nobody can edit it away while the scheduler does not run.
absl::StatusOr<ModelCatalog> LoadCatalog(const std::vector<config::ModelConfig>& file,
                                         const model::FolderSearch& search, Server::Kept& kept) {
  const DeployedModels deployed = ApplyDeployments(file, kept.snapshot.deployments);
  for (const std::string& sentence : deployed.told) LOG(WARNING) << sentence;
  store::Batch forget;
  for (const std::string& name : deployed.superseded) {
    forget.forgotten_deployments.push_back(name);
    std::erase_if(kept.snapshot.deployments, [&](const store::Deployment& row) { return row.name == name; });
  }
  if (!forget.forgotten_deployments.empty()) {
    if (absl::Status status = kept.store->Commit(forget); !status.ok()) return status;
  }
  std::vector<ServedModel> models;
  for (const config::ModelConfig& config : deployed.models) {
    auto model = ModelCatalog::LoadModel(config, search);
    const auto& run_time = deployed.run_time;
    const bool from_file = std::find(run_time.begin(), run_time.end(), config.name) == run_time.end();
    if (model.ok()) {
      models.push_back(*std::move(model));
    } else if (from_file) {
      return model.status();
    } else {
      LOG(ERROR) << "not served, though it was deployed: " << model.status().message();
    }
  }
  return ModelCatalog(std::move(models));
}

// Kept over restarts, so that what engines have cached can still be found. A new one costs the cache, nothing else.
std::string CacheSalt(const std::string& state_dir) {
  const std::string path = state_dir + "/cache_salt";
  std::string salt(16, '\0');
  if (std::ifstream file(path, std::ios::binary); file.read(salt.data(), 16)) return salt;
  salt = RandomBytes(16);
  std::ofstream(path, std::ios::binary) << salt;
  chmod(path.c_str(), 0600);
  return salt;
}

core::Duration Scaled(core::Duration d, double scale) {
  return {static_cast<int64_t>(static_cast<double>(d.us) * scale)};
}

core::CoreOptions MakeCoreOptions(const config::ClusterConfig& config) {
  core::CoreOptions options;
  options.waiting_room_requests = config.scheduling.waiting_room_requests;
  options.waiting_room_tokens = {config.scheduling.waiting_room_tokens};
  options.waiting_room_bytes = {config.scheduling.waiting_room_bytes};
  options.class_room_percent = config.scheduling.class_room_percent;
  options.tenant_room_percent = config.scheduling.tenant_room_percent;
  options.quarantine_after = config.scheduling.quarantine_after;
  options.quarantine_first = {absl::ToInt64Microseconds(config.scheduling.quarantine_cool_off)};
  options.quarantine_percent = config.scheduling.quarantine_percent;
  options.overcommit = config.scheduling.overcommit;
  options.remembered = config.scheduling.remembered;
  if (!config.scheduling.prefix_cache) options.prefix_entries = 0;
  options.sharing = config.scheduling.sharing;
  options.move_gain_permille = static_cast<int>(std::lround(config.scheduling.move_gain * 1000));
  options.link_probe = config.scheduling.link_probe == "off"    ? core::LinkProbing::kOff
                       : config.scheduling.link_probe == "once" ? core::LinkProbing::kOnce
                                                                : core::LinkProbing::kPeriodic;
  for (core::Duration* time :
       {&options.suspect_after,      &options.fence_after,   &options.detach_grace,  &options.stuck_after,
        &options.reattach_window,    &options.form_deadline, &options.load_deadline, &options.leave_deadline,
        &options.retry_first,        &options.retry_most,    &options.probe_pause,   &options.probe_deadline,
        &options.gpu_probe_deadline, &options.probe_again,   &options.pool_period,   &options.pool_up_after,
        &options.pool_down_after,    &options.pool_hold,     &options.move_calm,     &options.move_rest,
        &options.move_rest_most}) {
    *time = Scaled(*time, config.time_scale);
  }
  return options;
}

// Its rows are in the words of the core's own enum, in its order.
std::vector<core::HealthRule> HealthRules(const std::vector<config::HealthRow>& rows, double time_scale) {
  std::vector<core::HealthRule> rules;
  for (const config::HealthRow& row : rows) {
    const auto word = std::find(std::begin(config::kHealthActions), std::end(config::kHealthActions), row.action);
    const auto action = static_cast<core::HealthAction>(word - std::begin(config::kHealthActions));
    const core::Duration cool_off{absl::ToInt64Microseconds(row.cool_off)};
    rules.push_back({row.on, action, Scaled(cool_off, time_scale), row.times, row.because});
  }
  return rules;
}

ServerOptions MakeServerOptions(const config::ClusterConfig& config, uint64_t leader_epoch) {
  ServerOptions options;
  options.clients = config.server.clients;
  options.workers = config.server.workers;
  options.admin = config.server.admin;
  options.metrics = config.server.metrics;
  options.security = config.security;
  options.vllm_metrics = !config.metrics.compat.empty();
  options.leader_epoch = leader_epoch;
  options.expected_devices = static_cast<int>(config.devices.select.size());
  options.version = kVersion;
  options.core = MakeCoreOptions(config);
  options.pool.threads = static_cast<int>(std::clamp(std::thread::hardware_concurrency() / 4, 1u, 8u));
  options.runner.step_budget_ms = static_cast<uint32_t>(absl::ToInt64Milliseconds(config.scheduling.step_budget));
  options.runner.leader_epoch = leader_epoch;
  options.runner.prefix_cache = config.scheduling.prefix_cache;
  options.router.reattach_grace = Scaled(options.router.reattach_grace, config.time_scale);
  options.router.client_stall = core::Duration{absl::ToInt64Microseconds(config.scheduling.client_stall)};
  options.live_within *= config.time_scale;
  options.orphan_grace_ms = static_cast<uint32_t>(options.orphan_grace_ms * config.time_scale);
  return options;
}

bool Reflects(const config::ServerConfig& server) {
  if (server.reflection != "loopback") return server.reflection == "always";
  for (const std::string& address : {server.clients, server.workers, server.admin}) {
    const auto endpoint = config::ParseEndpoint(address);
    if (!endpoint.ok() || !endpoint->IsLoopback()) return false;
  }
  return true;
}

int Main(int argc, char** argv) {
  config::ServiceProgram program("tandem-scheduler", "The central scheduler of Tandem.", kVersion);
  program.DoorFlags();
  program.Layered("--clients", "server.clients", "HOST:PORT for clients (127.0.0.1:50051)");
  program.Layered("--workers", "server.workers", "HOST:PORT for workers (127.0.0.1:50061)");
  program.Layered("--admin", "server.admin", "HOST:PORT for operators (127.0.0.1:50052)");
  program.Layered("--metrics", "server.metrics", "HOST:PORT for Prometheus and probes (127.0.0.1:9464)");
  program.Layered("--tls-cert", "security.certificate", "Certificate (PEM) of all doors: they speak TLS");
  program.Layered("--tls-key", "security.key", "Its key (PEM)");
  program.Layered("--tls-client-ca", "security.client_ca", "CA (PEM) of the certificates that clients show");
  program.Layered("--tls-client-certs", "security.client_certificates",
                  "off, optional or required (where there is a CA)");
  program.Layered("--tokens", "security.tokens", "File of bearer tokens: NAME ROLES TOKEN on a line");
  program.Layered("--state-dir", "state_dir", "Where the leader epoch, the store and the journal are kept");
  program.Layered("--model-root", "model_root", "The folder that model paths are relative to");
  bool no_journal = false;
  program.app().add_flag("--no-journal", no_journal, "Keep no journal");
  bool check_models = false;
  program.app().add_flag("--check-models", check_models, "Say what the configured models need, and end");
  if (const auto code = program.Begin(argc, argv)) return *code;
  signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error of its write, as a full disk is

  const config::ClusterConfig& config = program.config();
  const auto fail = [&program](const absl::Status& status) { return program.Fail(status.message()); };
  if (check_models) {
    std::cout << ReportModels(config.models, {config.model_root, model::DefaultHubCache()}) << std::flush;
    return 0;
  }
  if (const absl::Status status = config::CheckServed(config); !status.ok()) return fail(status);
  std::vector<std::string> warnings;
  const absl::Status files = config::CheckDoorFiles(config.security, absl::Now(), &warnings);
  if (!files.ok()) return fail(files);
  for (const std::string& warning : warnings) LOG(WARNING) << warning;
  const auto health = config::LoadDeviceHealth(config.scheduling.device_health);
  if (!health.ok()) return fail(health.status());
  RaiseDescriptorLimit();
  const auto epoch = LeaderEpoch::Raise(config.state_dir);
  if (!epoch.ok()) return fail(epoch.status());
  auto kept = OpenStore(config.state_dir, (*epoch)->value());
  if (!kept.ok()) return fail(kept.status());
  const model::FolderSearch search{config.model_root, model::DefaultHubCache()};
  auto catalog = LoadCatalog(config.models, search, *kept);
  if (!catalog.ok()) return fail(catalog.status());
  std::unique_ptr<Journal> journal;
  if (!no_journal) {
    auto opened = Journal::Open({config.state_dir + "/journal", kVersion, (*epoch)->value()});
    if (!opened.ok()) return fail(opened.status());
    journal = *std::move(opened);
  }

  ServerOptions options = MakeServerOptions(config, (*epoch)->value());
  options.core.health = HealthRules(*health, config.time_scale);
  options.cache_salt = CacheSalt(config.state_dir);
  options.deployments = {search, config.models};
  options.reflection = Reflects(config.server);
  const std::string models = catalog->Names();
  Server server(std::move(options), *std::move(catalog), std::move(journal), *std::move(kept));
  if (absl::Status status = server.Start(); !status.ok()) return fail(status);
  LOG(INFO) << "tandem-scheduler " << kVersion << " leads as " << (*epoch)->value() << ": clients at port "
            << server.clients_port() << ", workers at " << server.workers_port() << ", operators at "
            << server.admin_port() << ", metrics at " << server.metrics_port() << "; models: " << models;

  const LifeSigns life(program.notifier(),
                       [&server](std::function<void()> answer) { server.AskCore(std::move(answer)); });
  const bool finish_first = program.AwaitEnd(/*finishes_first=*/true) == SIGUSR1;
  server.Drain(program.stop_grace(), [&program] { return program.HurriedOn(); });
  program.notifier()->Tell(kNotifyDrained);
  if (finish_first && !program.HurriedOn()) program.AwaitEnd();
  server.Shutdown();
  return 0;
}

}  // namespace
}  // namespace tandem::scheduler

int main(int argc, char** argv) {
  // What gRPC has to say about an address in use, we say in one line.
  gpr_set_log_function([](gpr_log_func_args* line) { VLOG(1) << line->message; });
  return tandem::scheduler::Main(argc, argv);
}
