// tandem-gateway: flags and files in, one HTTP server in front of one scheduler out, until a signal ends it.
#include <glog/logging.h>
#include <grpc/support/log.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/descriptor_limit.h"
#include "base/notify/life_signs.h"
#include "base/security/dialer.h"
#include "base/security/server_tls.h"
#include "client/async_client.h"
#include "client/gateway/api_keys.h"
#include "client/gateway/gateway.h"
#include "client/gateway/metrics.h"
#include "client/gateway/server.h"
#include "config/endpoint.h"
#include "config/security_rules.h"
#include "config/service_program.h"

namespace tandem::gateway {
namespace {

constexpr char kVersion[] = TANDEM_VERSION;

// Flags first; without any, the environment. Several keys are separated by commas.
std::vector<std::string> GivenKeys(std::vector<std::string> keys) {
  for (const char* variable : {"TANDEM_API_KEY", "VLLM_API_KEY"}) {
    const char* text = std::getenv(variable);
    if (!keys.empty() || text == nullptr) continue;
    for (absl::string_view key : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
      keys.emplace_back(absl::StripAsciiWhitespace(key));
    }
  }
  return keys;
}

int Main(int argc, char** argv) {
  config::ServiceProgram program("tandem-gateway", "OpenAI's HTTP API in front of a Tandem scheduler.", kVersion);
  program.DoorFlags();
  program.Layered("--http", "server.http", "HOST:PORT to serve (127.0.0.1:8000)");
  program.Layered("--api-keys-file", "server.api_keys_file",
                  "A file of NAME:KEY lines: each name is a tenant (no file)");
  program.Layered("--tls-cert", "security.http.certificate", "Certificate (PEM): HTTPS is served");
  program.Layered("--tls-key", "security.http.key", "Its key (PEM)");
  program.Layered("--tls-client-ca", "security.http.client_ca", "CA (PEM) of the certificates that clients show");
  program.Layered("--tls-client-certs", "security.http.client_certificates",
                  "off, optional or required (where there is a CA)");
  program.Layered("--scheduler", "server.clients", "HOST:PORT of the scheduler's clients (127.0.0.1:50051)");
  program.DialFlags();
  CLI::App& app = program.app();
  GatewayOptions options;
  ServerOptions server_options;
  std::vector<std::string> given_keys;
  app.add_option("--api-key", given_keys,
                 "A key that clients must send; may be given several times (TANDEM_API_KEY, VLLM_API_KEY)");
  app.add_flag("--guard-models", options.guard_models, "GET /v1/models needs a key too");
  app.add_option("--allow-origin", options.allowed_origins,
                 "An origin that browsers may ask from; \"*\" for all (none)");
  app.add_option("--threads", server_options.threads, "Threads for connections (2)")->check(CLI::Range(1, 64));
  app.add_option("--max-connections", server_options.most_connections, "Further ones are answered 503 (4096)")
      ->check(CLI::Range(1, 1000000));
  if (const auto code = program.Begin(argc, argv)) return *code;
  RaiseDescriptorLimit();

  const auto http = config::ParseEndpoint(program.config().server.http);
  if (!http.ok()) return program.Fail(http.status().message());
  server_options.host = http->host;
  server_options.port = http->port;
  ApiKeys keys(GivenKeys(std::move(given_keys)), program.config().server.api_keys_file);
  if (absl::Status status = keys.Load(); !status.ok()) return program.Fail(status.message());
  options.version = kVersion;
  options.vllm_metrics = !program.config().metrics.compat.empty();

  std::vector<std::string> warnings;
  const security::DoorSettings& tls_files = program.config().security.http;
  std::unique_ptr<security::ServerTls> tls;  // null: plain text
  if (tls_files.encrypted()) {
    auto opened = security::ServerTls::Open(tls_files, program.config().security.refresh, &warnings);
    if (!opened.ok()) return program.Fail(opened.status().message());
    tls = *std::move(opened);
  } else if (keys.required() && !http->IsLoopback() && program.config().server.api_keys_file.empty()) {
    warnings.push_back(config::KeysInTheOpen(program.config().server.http));
  }
  const auto dialer = security::Dialer::Open(program.config().security.dial, &warnings);
  if (!dialer.ok()) return program.Fail(dialer.status().message());
  for (const std::string& warning : warnings) LOG(WARNING) << warning;
  const auto door = config::ParseEndpoint(program.config().server.clients);
  if (!door.ok()) return program.Fail(door.status().message());
  const std::string scheduler = door->DialAddress();
  if (const absl::Status status = dialer->Check(scheduler); !status.ok()) return program.Fail(status.message());

  Metrics metrics(kVersion);
  if (tls != nullptr) metrics.certificate_ends = [&tls] { return tls->ends(); };
  std::atomic<bool> closing = false;
  // The client ends last: it waits for calls that connections cancel when they are closed.
  client::AsyncClient client(scheduler, *dialer);
  Gateway gateway(std::move(options), &keys, &client, &metrics, &closing);
  Server server(server_options, tls.get(), &metrics, &closing,
                {.screen = [&gateway](HttpRequest* request) { return gateway.Screen(request); },
                 .handle = [&gateway](std::shared_ptr<Exchange> exchange) { gateway.Handle(std::move(exchange)); }});
  if (absl::Status status = server.Start(); !status.ok()) return program.Fail(status.message());
  LOG(INFO) << "tandem-gateway " << kVersion << " serves " << (tls != nullptr ? "HTTPS" : "HTTP") << " at "
            << http->host << " port " << server.port() << " for the scheduler at " << scheduler
            << (dialer->encrypted() ? " over TLS; " : "; ")
            << (keys.required() ? absl::StrCat(keys.size(), keys.size() == 1 ? " key" : " keys") : "no key is needed");

  const LifeSigns life(program.notifier(),
                       [&server](std::function<void()> answer) { server.AskLoops(std::move(answer)); });
  program.AwaitEnd();
  server.Shutdown(program.stop_grace(), [&program] { return program.HurriedOn(); });
  return 0;
}

}  // namespace
}  // namespace tandem::gateway

int main(int argc, char** argv) {
  // What gRPC has to say about a scheduler that is away, answers say.
  gpr_set_log_function([](gpr_log_func_args* line) { VLOG(1) << line->message; });
  return tandem::gateway::Main(argc, argv);
}
