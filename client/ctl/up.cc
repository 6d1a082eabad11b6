// tandemctl up: the whole service of one machine under one supervisor.
#include <sys/utsname.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <iostream>
#include <memory>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/notification.h"
#include "client/ctl/interrupt.h"
#include "client/ctl/supervisor.h"
#include "client/ctl/up_plan.h"
#include "client/ctl/verbs.h"
#include "config/cluster_config.h"

namespace tandem::client::ctl {
namespace {

struct UpOptions {
  std::string profile, state_dir, model_root, clients, workers, admin;
};

std::vector<config::FlagValue> Flags(const UpOptions& options) {
  std::vector<config::FlagValue> flags;
  const auto add = [&flags](const char* key, const std::string& text, const char* flag) {
    if (!text.empty()) flags.push_back({key, text, flag});
  };
  add("profile", options.profile, "--profile");
  add("state_dir", options.state_dir, "--state-dir");
  add("model_root", options.model_root, "--model-root");
  add("server.clients", options.clients, "--clients");
  add("server.workers", options.workers, "--workers");
  add("server.admin", options.admin, "--admin");
  return flags;
}

std::string OwnFolder() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string();
}

std::string HostName() {
  utsname names = {};
  return uname(&names) == 0 ? names.nodename : "localhost";
}

// Asks until every model is served, says so once, and says from time to time what is missing until then.
class ReadinessWatch {
 public:
  ReadinessWatch(const config::ServerConfig& server, std::function<void(const std::string&)> log)
      : server_(server), log_(std::move(log)), thread_([this] { Run(); }) {}
  ~ReadinessWatch() {
    stop_.Notify();
    thread_.join();
  }

  bool ready() const { return ready_; }

 private:
  void Run() {
    absl::Time report_at = absl::Now() + absl::Seconds(10);
    std::unique_ptr<AdminClient> admin;
    std::string missing = "the scheduler does not answer yet";
    while (!stop_.WaitForNotificationWithTimeout(absl::Milliseconds(50))) {
      if (admin == nullptr) {
        auto connected = AdminClient::Connect(server_.admin, {absl::Seconds(1), absl::Seconds(2)});
        if (connected.ok()) admin = std::move(*connected);
      }
      if (admin != nullptr) {
        const auto status = admin->GetStatus();
        if (status.ok() && status->ready()) {
          Announce(*status);
          return;
        }
        if (status.ok()) missing = Missing(*status);
      }
      if (absl::Now() >= report_at) {
        log_(absl::StrCat("not ready: ", missing));
        report_at = absl::Now() + absl::Seconds(10);
      }
    }
  }

  static std::string Missing(const v1::GetStatusResponse& status) {
    std::vector<std::string> parts;
    for (const v1::Model& model : status.models()) {
      if (model.replicas_ready() == 0) {
        parts.push_back(absl::StrCat(model.name(), ": ", model.waits_for().empty() ? "no group" : model.waits_for()));
      }
    }
    return parts.empty() ? "no model" : absl::StrJoin(parts, "; ");
  }

  void Announce(const v1::GetStatusResponse& status) {
    ready_ = true;
    std::vector<std::string> groups;
    for (const v1::Group& group : status.groups()) {
      if (group.state() == v1::GROUP_READY) {
        groups.push_back(
            absl::StrCat(group.model(), " on ", absl::StrJoin(group.devices(), "+"), " (", group.name(), ")"));
      }
    }
    std::cout << "tandem is ready: clients " << server_.clients << ", admin " << server_.admin
              << (groups.empty() ? "" : "; ") << absl::StrJoin(groups, "; ") << std::endl;
  }

  const config::ServerConfig server_;
  const std::function<void(const std::string&)> log_;
  std::atomic<bool> ready_ = false;
  absl::Notification stop_;
  std::thread thread_;
};

absl::Status Up(const Context& context, const UpOptions& options) {
  const auto loaded = config::LoadClusterConfig(context.config_path, Flags(options));
  if (!loaded.ok()) return loaded.status();
  const auto log = [](absl::string_view label, absl::string_view line) {
    std::cerr << absl::StrCat("[", label, "] ", line, "\n");
  };
  for (const std::string& warning : loaded->warnings) log("up", absl::StrCat("warning: ", warning));
  const config::ClusterConfig& config = loaded->config;
  const std::string config_path =
      context.config_path.empty() ? "" : std::filesystem::absolute(context.config_path).string();
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  auto plan = PlanUp(config, config_path, OwnFolder(), HostName(), cores);
  if (!plan.ok()) return plan.status();
  if (const auto status = CheckPortsFree(config.server); !status.ok()) return status;
  for (const std::string& note : plan->notes) log("up", note);

  const ReadinessWatch watch(config.server, [&log](const std::string& line) { log("up", line); });
  SupervisorOptions supervision;
  supervision.stop_timeout *= config.time_scale;
  supervision.starting = [&watch] { return !watch.ready(); };
  supervision.log = log;
  Supervisor supervisor(std::move(plan->children), std::move(supervision));
  const OnInterrupt on_interrupt([&supervisor] { supervisor.RequestStop(); });
  return supervisor.Run();
}

}  // namespace

void AddUp(CLI::App& app, Context& context) {
  auto options = std::make_shared<UpOptions>();
  CLI::App* up = app.add_subcommand("up", "Start scheduler and workers on this machine and keep them running");
  up->add_option("--profile", options->profile, "development, staging or production");
  up->add_option("--state-dir", options->state_dir, "Where the scheduler keeps what must survive it");
  up->add_option("--model-root", options->model_root, "Folder that relative model paths start from");
  up->add_option("--clients", options->clients, "HOST:PORT where clients are served");
  up->add_option("--workers", options->workers, "HOST:PORT where workers dial in");
  up->add_option("--admin", options->admin, "HOST:PORT where operators are served");
  up->callback([&context, options] { context.exit_code = Report(Up(context, *options)); });
}

}  // namespace tandem::client::ctl
