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
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/notify/notifier.h"
#include "config/cluster_config.h"

namespace tandem::config {

class ServiceProgram {
 public:
  ServiceProgram(std::string name, const std::string& what, const std::string& version);

  CLI::App& app() { return app_; }  // for flags of the program's own
  // A flag that is the uppermost layer of a key of the configuration.
  void Layered(const char* flag, const char* key, const char* help);

  // The flags of a program with doors: --stop-grace, --insecure-non-loopback.
  void DoorFlags();
  // The flags of a program that dials the scheduler: --ca, --cert, --key, --token-file, --tls-server-name.
  void DialFlags();

  // Reads flags and configuration, starts logging, and keeps the ending signals for AwaitEnd: threads that are started
  // after it leave them alone. A value is what main is to return: help was asked for, or something is wrong and said.
  std::optional<int> Begin(int argc, char** argv);

  const ClusterConfig& config() const { return loaded_->config; }  // After Begin.
  absl::Duration stop_grace() const { return config().server.stop_grace; }

  bool dies_with_parent() const { return die_with_parent_; }
  // For whoever supervises this process. After Begin.
  const std::shared_ptr<const Notifier>& notifier() const { return notifier_; }

  // Says on one line why there is no service. The code to return.
  int Fail(absl::string_view why) const;
  // Waits for SIGTERM, SIGINT or, where it is told to, SIGUSR1, which asks to finish what is under way and then to wait
  // for the end. Returns the signal, and logs it.
  int AwaitEnd(bool finishes_first = false);
  // After AwaitEnd: whether another ending signal has come, and what is under way is to be waited for no longer.
  bool HurriedOn();

 private:
  const std::string name_;
  CLI::App app_;
  std::string config_path_;
  std::vector<FlagValue> flags_;
  int log_level_ = 0;
  bool die_with_parent_ = false;
  std::shared_ptr<const Notifier> notifier_;
  sigset_t ends_;
  bool hurried_on_ = false;
  std::optional<LoadedConfig> loaded_;
};

}  // namespace tandem::config

#endif  // TANDEM_CONFIG_SERVICE_PROGRAM_H_
