// tandemctl up: the whole service of one machine under one supervisor.
#include "client/ctl/up.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/security/pem_files.h"
#include "base/steady_wait.h"
#include "client/ctl/http_probe.h"
#include "client/ctl/interrupt.h"
#include "client/ctl/ports.h"
#include "client/ctl/question.h"
#include "client/ctl/supervisor.h"
#include "client/ctl/up_plan.h"
#include "client/ctl/verbs.h"
#include "config/cluster_config.h"
#include "config/endpoint.h"
#include "config/security_rules.h"

namespace tandem::client::ctl {
namespace {

struct UpOptions {
  std::string profile, state_dir, model_root, clients, workers, admin, http, metrics, stop_grace, env_file;
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
  add("server.http", options.http, "--http");
  add("server.metrics", options.metrics, "--metrics");
  add("server.stop_grace", options.stop_grace, "--stop-grace");
  return flags;
}

std::string HostName() {
  utsname names = {};
  return uname(&names) == 0 ? names.nodename : "localhost";
}

// Asks until every model is served, says so once, and says from time to time what is missing until then.
class ReadinessWatch {
 public:
  ReadinessWatch(const config::ClusterConfig& config, security::Dialer dialer, bool gateway,
                 std::function<void(const std::string&)> log)
      : server_(config.server),
        http_(KindOf(config.security.http)),
        dialer_(std::move(dialer)),
        gateway_(gateway),
        log_(std::move(log)),
        thread_([this] { Run(); }) {}
  ~ReadinessWatch() {
    stop_.Notify();
    thread_.join();
  }

  bool ready() const { return ready_; }

 private:
  void Run() {
    SteadyTime report_at = SteadyDeadline(absl::Seconds(10));
    std::unique_ptr<AdminClient> admin;
    std::string missing = "the scheduler does not answer yet";
    while (!stop_.WaitFor(absl::Milliseconds(50))) {
      if (admin == nullptr) {
        const auto endpoint = config::ParseEndpoint(server_.admin);
        auto connected = AdminClient::Connect(
            endpoint.ok() ? endpoint->DialAddress() : server_.admin,
            {.connect_timeout = absl::Seconds(1), .call_timeout = absl::Seconds(2), .dialer = dialer_});
        if (connected.ok()) admin = std::move(*connected);
      }
      if (admin != nullptr) {
        const auto status = admin->GetStatus();
        const bool ready = status.ok() && status->ready();
        const absl::Status http = ready ? AskHttp() : absl::OkStatus();
        if (ready && http.ok()) {
          Announce(*status);
          return;
        }
        missing = !status.ok() ? std::string(status.status().message())
                  : ready      ? absl::StrCat("HTTP: ", http.message())
                               : Missing(*status);
      }
      if (std::chrono::steady_clock::now() >= report_at) {
        log_(absl::StrCat("not ready: ", missing));
        report_at = SteadyDeadline(absl::Seconds(10));
      }
    }
  }

  absl::Status AskHttp() const {
    const auto endpoint = config::ParseEndpoint(server_.http);
    if (!gateway_ || !endpoint.ok()) return endpoint.status();
    const auto dialed = config::ParseEndpoint(endpoint->DialAddress());
    return dialed.ok() ? AskLive(*dialed, http_, absl::Seconds(1)) : dialed.status();
  }

  static HttpDoor KindOf(const security::DoorSettings& door) {
    if (!door.encrypted()) return HttpDoor::kPlain;
    return door.client_certificates == "required" ? HttpDoor::kTlsForCertificates : HttpDoor::kTls;
  }

  static std::string Missing(const v1::GetStatusResponse& status) {
    std::vector<std::string> parts;
    for (const v1::Model& model : status.models()) {
      if (model.replicas_ready() == 0 && !model.sleeping()) {
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
              << (gateway_ ? absl::StrCat(http_ == HttpDoor::kPlain ? ", http " : ", https ", server_.http) : "")
              << (groups.empty() ? "" : "; ") << absl::StrJoin(groups, "; ") << std::endl;
  }

  const config::ServerConfig server_;
  const HttpDoor http_;
  const security::Dialer dialer_;
  const bool gateway_;
  const std::function<void(const std::string&)> log_;
  std::atomic<bool> ready_ = false;
  SteadyNotification stop_;
  std::thread thread_;
};

// One line of an env file: NAME=VALUE, a comment, or nothing. False: none of these.
bool ReadEnvLine(absl::string_view line) {
  line = absl::StripAsciiWhitespace(line);
  absl::ConsumePrefix(&line, "export ");
  if (line.empty() || line.front() == '#') return true;
  const size_t equals = line.find('=');
  if (equals == absl::string_view::npos || equals == 0) return false;
  const std::string name(absl::StripAsciiWhitespace(line.substr(0, equals)));
  absl::string_view value = absl::StripAsciiWhitespace(line.substr(equals + 1));
  const bool quoted =
      value.size() >= 2 && (value.front() == '"' || value.front() == '\'') && value.back() == value.front();
  if (quoted) {
    value = value.substr(1, value.size() - 2);
  } else if (const size_t comment = value.find(" #"); comment != absl::string_view::npos) {
    value = absl::StripAsciiWhitespace(value.substr(0, comment));
  }
  setenv(name.c_str(), std::string(value).c_str(), /*overwrite=*/0);
  return true;
}

}  // namespace

absl::Status ReadEnvFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::InvalidArgumentError(absl::StrCat("cannot read ", path));
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (!ReadEnvLine(line)) return absl::InvalidArgumentError(absl::StrCat(path, ":", number, ": not NAME=VALUE"));
  }
  return absl::OkStatus();
}

absl::Status RunUp(const std::string& given_path, const std::vector<config::FlagValue>& flags) {
  const auto loaded = config::LoadClusterConfig(given_path, flags);
  if (!loaded.ok()) return loaded.status();
  const auto log = [](absl::string_view label, absl::string_view line) {
    // A line of JSON says itself which program it is of, and stays one.
    const bool json = absl::StartsWith(line, "{\"ts\":");
    std::cerr << (json ? absl::StrCat(line, "\n") : absl::StrCat("[", label, "] ", line, "\n"));
  };
  for (const std::string& warning : loaded->warnings) log("up", absl::StrCat("warning: ", warning));
  const config::ClusterConfig& config = loaded->config;
  const std::string config_path = given_path.empty() ? "" : std::filesystem::absolute(given_path).string();
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  auto plan = PlanUp(config, config_path, OwnFolder(), HostName(), cores);
  if (!plan.ok()) return plan.status();
  std::vector<std::string> warnings;
  if (const auto status = config::CheckDoorFiles(config.security, absl::Now(), &warnings); !status.ok()) return status;
  if (plan->gateway) {
    const auto status = security::CheckDoorFiles(config.security.http, absl::Now(), &warnings);
    if (!status.ok()) return status;
  }
  const auto dialer = security::Dialer::Open(config.security.dial, &warnings);
  if (!dialer.ok()) return dialer.status();
  if (const auto status = CheckPortsFree(config.server, plan->gateway); !status.ok()) return status;
  for (const std::string& note : plan->notes) log("up", note);

  const ReadinessWatch watch(config, *dialer, plan->gateway, [&log](const std::string& line) { log("up", line); });
  SupervisorOptions supervision;
  supervision.stop_timeout *= config.time_scale;
  supervision.stop_grace = config.server.stop_grace;
  supervision.silence *= config.time_scale;
  supervision.starting = [&watch] { return !watch.ready(); };
  supervision.log = log;
  Supervisor supervisor(std::move(plan->children), std::move(supervision));
  // The second time ends the grace, the third time all of us at once.
  const OnInterrupt on_interrupt([&supervisor] { supervisor.RequestStop(); }, /*times=*/2);
  return supervisor.Run();
}

void AddUp(CLI::App& app, Context& context) {
  auto options = std::make_shared<UpOptions>();
  CLI::App* up = app.add_subcommand("up", "Start scheduler and workers on this machine and keep them running");
  up->add_option("--profile", options->profile, "development, staging or production");
  up->add_option("--state-dir", options->state_dir, "Where the scheduler keeps what must survive it");
  up->add_option("--model-root", options->model_root, "Folder that relative model paths start from");
  up->add_option("--clients", options->clients, "HOST:PORT where clients are served");
  up->add_option("--workers", options->workers, "HOST:PORT where workers dial in");
  up->add_option("--admin", options->admin, "HOST:PORT where operators are served");
  up->add_option("--http", options->http, "HOST:PORT where OpenAI's HTTP API is served");
  up->add_option("--metrics", options->metrics, "HOST:PORT for Prometheus and health probes");
  up->add_option("--stop-grace", options->stop_grace, "How long what runs gets to end after SIGTERM (30s)");
  up->add_option("--env-file", options->env_file, "Variables to read first, as in compose files");
  up->callback([&context, options] {
    absl::Status status;
    if (!options->env_file.empty()) status = ReadEnvFile(options->env_file);
    std::vector<config::FlagValue> flags = Flags(*options);
    flags.insert(flags.end(), context.dial_flags.begin(), context.dial_flags.end());
    context.exit_code = Report(status.ok() ? RunUp(context.config_path, flags) : status);
  });
}

}  // namespace tandem::client::ctl
