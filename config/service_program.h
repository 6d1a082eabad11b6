// What the programs that serve until a signal ends them have in common: the command line's layer of the configuration,
// logging, and how they begin and end. Made in main, before any thread; one per process.
//
//   ServiceProgram program("tandem-x", "What it is.", kVersion);
//   program.Layered("--http", "server.http", "HOST:PORT to serve (127.0.0.1:8000)");
//   if (const auto code = program.Begin(argc, argv)) return *code;
//   ... program.config() ...
//   program.AwaitEnd();
#ifndef TANDEM_CONFIG_SERVICE_PROGRAM_H_
#define TANDEM_CONFIG_SERVICE_PROGRAM_H_

#include <signal.h>

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "config/cluster_config.h"

namespace tandem::config {

class ServiceProgram {
 public:
  ServiceProgram(std::string name, const std::string& what, const std::string& version);

  CLI::App& app() { return app_; }  // for flags of the program's own
  // A flag that is the uppermost layer of a key of the configuration.
  void Layered(const char* flag, const char* key, const char* help);

  // The flags of a program that dials the scheduler: --ca, --cert, --key, --token-file, --tls-server-name.
  void DialFlags();

  // Reads flags and configuration, starts logging, and keeps the ending signals for AwaitEnd: threads that are started
  // after it leave them alone. A value is what main is to return: help was asked for, or something is wrong and said.
  std::optional<int> Begin(int argc, char** argv);

  const ClusterConfig& config() const { return loaded_->config; }  // After Begin.
  absl::Duration shutdown_grace() const { return absl::Seconds(grace_s_); }

  // Says on one line why there is no service. The code to return.
  int Fail(absl::string_view why) const;
  // Waits for SIGTERM or SIGINT, and logs it.
  void AwaitEnd() const;

 private:
  const std::string name_;
  CLI::App app_;
  std::string config_path_;
  std::vector<FlagValue> flags_;
  double grace_s_ = 10;
  int log_level_ = 0;
  bool die_with_parent_ = false;
  sigset_t ends_;
  std::optional<LoadedConfig> loaded_;
};

}  // namespace tandem::config

#endif  // TANDEM_CONFIG_SERVICE_PROGRAM_H_
