// tandem-gateway: flags and files in, one HTTP server in front of one scheduler out, until a signal ends it.
#include <glog/logging.h>
#include <grpc/support/log.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/log/log.h"
#include "client/async_client.h"
#include "client/gateway/gateway.h"
#include "client/gateway/metrics.h"
#include "client/gateway/server.h"
#include "config/cluster_config.h"
#include "config/endpoint.h"

namespace tandem::gateway {
namespace {

constexpr char kVersion[] = TANDEM_VERSION;

int Fail(absl::string_view why) {
  std::cerr << "tandem-gateway: " << why << "\n";
  return 1;
}

// Flags first; without any, the environment. Several keys are separated by commas.
std::vector<std::string> ApiKeys(std::vector<std::string> keys) {
  for (const char* variable : {"TANDEM_API_KEY", "VLLM_API_KEY"}) {
    const char* text = std::getenv(variable);
    if (!keys.empty() || text == nullptr) continue;
    for (absl::string_view key : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
      keys.emplace_back(absl::StripAsciiWhitespace(key));
    }
  }
  return keys;
}

// A connection is a descriptor; the usual 1024 are fewer than the clients that one machine can have.
void AllowManyDescriptors() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int Main(int argc, char** argv) {
  CLI::App app("OpenAI's HTTP API in front of a Tandem scheduler.");
  app.set_version_flag("--version", kVersion);
  std::string config_path;
  std::vector<config::FlagValue> flags;
  const auto layered = [&](const char* flag, const char* key, const char* help) {
    app.add_option_function<std::string>(
        flag,
        [&flags, flag, key](const std::string& text) {
          flags.push_back({key, text, flag});
        },
        help);
  };
  app.add_option("--config", config_path, "YAML file; see config/");
  layered("--http", "server.http", "HOST:PORT to serve (127.0.0.1:8000)");
  layered("--scheduler", "server.clients", "HOST:PORT of the scheduler's clients (127.0.0.1:50051)");
  layered("--log-format", "log.format", "text or json (text)");
  app.add_flag_callback(
      "--insecure-non-loopback",
      [&flags] {
        flags.push_back({"server.plaintext_beyond_loopback", "true", "--insecure-non-loopback"});
      },
      "Serve plain text to other machines too");
  GatewayOptions options;
  ServerOptions server_options;
  app.add_option("--api-key", options.api_keys,
                 "A key that clients must send; may be given several times (TANDEM_API_KEY, VLLM_API_KEY)");
  app.add_flag("--guard-models", options.guard_models, "GET /v1/models needs a key too");
  app.add_option("--allow-origin", options.allowed_origins,
                 "An origin that browsers may ask from; \"*\" for all (none)");
  app.add_option("--threads", server_options.threads, "Threads for connections (2)")->check(CLI::Range(1, 64));
  app.add_option("--max-connections", server_options.most_connections, "Further ones are answered 503 (4096)")
      ->check(CLI::Range(1, 1000000));
  double grace_s = 10;
  app.add_option("--shutdown-grace", grace_s, "Seconds that answers under way get after SIGTERM (10)")
      ->check(CLI::Range(0.0, 3600.0));
  int log_level = 0;
  app.add_option("--log-level", log_level, "0 all, 1 warnings, 2 errors (0)")->check(CLI::Range(0, 2));
  bool die_with_parent = false;
  app.add_flag("--die-with-parent", die_with_parent, "End when the process that started this one does");
  CLI11_PARSE(app, argc, argv);
  FLAGS_minloglevel = log_level;
  const pid_t parent = getppid();
  if (die_with_parent) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) return Fail("the process that started this one has ended");
  }

  // Before any thread exists, so that all of them leave the signals to sigwait below.
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  signal(SIGPIPE, SIG_IGN);
  AllowManyDescriptors();

  const auto loaded = config::LoadClusterConfig(config_path, flags);
  if (!loaded.ok()) return Fail(loaded.status().message());
  if (loaded->config.log.format == "json") LogAsJson("tandem-gateway");
  const auto http = config::ParseEndpoint(loaded->config.server.http);
  if (!http.ok()) return Fail(http.status().message());
  server_options.host = http->host;
  server_options.port = http->port;
  options.api_keys = ApiKeys(std::move(options.api_keys));
  options.version = kVersion;

  Metrics metrics(kVersion);
  std::atomic<bool> closing = false;
  const size_t keys = options.api_keys.size();
  // The client ends last: it waits for calls that connections cancel when they are closed.
  client::AsyncClient client(loaded->config.server.clients);
  Gateway gateway(std::move(options), &client, &metrics, &closing);
  Server server(server_options, &metrics, &closing,
                [&gateway](std::shared_ptr<Exchange> exchange) { gateway.Handle(std::move(exchange)); });
  if (absl::Status status = server.Start(); !status.ok()) return Fail(status.message());
  LOG(INFO) << "tandem-gateway " << kVersion << " serves HTTP at " << http->host << " port " << server.port()
            << " for the scheduler at " << loaded->config.server.clients << "; "
            << (keys == 0 ? "no key is needed" : absl::StrCat(keys, keys == 1 ? " key" : " keys"));

  int signal_number = 0;
  sigwait(&ends, &signal_number);
  LOG(INFO) << "signal " << signal_number << ": answers under way get up to " << grace_s << " s";
  server.Shutdown(absl::Seconds(grace_s));
  return 0;
}

}  // namespace
}  // namespace tandem::gateway

int main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  // What gRPC has to say about a scheduler that is away, answers say.
  gpr_set_log_function([](gpr_log_func_args* line) { VLOG(1) << line->message; });
  return tandem::gateway::Main(argc, argv);
}
