#include "config/service_program.h"

#include <glog/logging.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <iostream>
#include <utility>

#include "base/log/log.h"
#include "config/dial_flags.h"

namespace tandem::config {
namespace {

constexpr int kExitUsage = 2;  // as tandemctl's

}  // namespace

ServiceProgram::ServiceProgram(std::string name, const std::string& what, const std::string& version)
    : name_(std::move(name)), app_(what) {
  app_.set_version_flag("--version", version);
  app_.add_option("--config", config_path_, "YAML file; see config/");
  app_.add_option("--shutdown-grace", grace_s_, "Seconds that what is under way gets after SIGTERM (10)")
      ->check(CLI::Range(0.0, 3600.0));
  app_.add_option("--log-level", log_level_, "0 all, 1 warnings, 2 errors (0)")->check(CLI::Range(0, 2));
  Layered("--log-format", "log.format", "text or json (text)");
  app_.add_flag("--die-with-parent", die_with_parent_, "End when the process that started this one does");
  app_.add_flag_callback(
      "--insecure-non-loopback",
      [this] {
        flags_.push_back({"server.plaintext_beyond_loopback", "true", "--insecure-non-loopback"});
      },
      "Serve plain text to other machines too");
}

void ServiceProgram::Layered(const char* flag, const char* key, const char* help) {
  app_.add_option_function<std::string>(
      flag,
      [this, flag, key](const std::string& text) {
        flags_.push_back({key, text, flag});
      },
      help);
}

void ServiceProgram::DialFlags() {
  for (const DialFlag& flag : kDialFlags) Layered(flag.flag, flag.key, flag.help);
}

std::optional<int> ServiceProgram::Begin(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  const pid_t parent = getppid();
  try {
    app_.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app_.exit(e) == 0 ? 0 : kExitUsage;
  }
  FLAGS_minloglevel = log_level_;
  if (die_with_parent_) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) return Fail("the process that started this one has ended");
  }
  sigemptyset(&ends_);
  sigaddset(&ends_, SIGTERM);
  sigaddset(&ends_, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends_, nullptr);
  signal(SIGPIPE, SIG_IGN);

  auto loaded = LoadClusterConfig(config_path_, flags_);
  if (!loaded.ok()) return Fail(loaded.status().message());
  loaded_ = *std::move(loaded);
  if (config().log.format == "json") LogAsJson(name_);
  for (const std::string& warning : loaded_->warnings) LOG(WARNING) << warning;
  return std::nullopt;
}

int ServiceProgram::Fail(absl::string_view why) const {
  std::cerr << name_ << ": " << why << "\n";
  return 1;
}

void ServiceProgram::AwaitEnd() const {
  int number = 0;
  sigwait(&ends_, &number);
  LOG(INFO) << "signal " << number << ": what is under way gets up to " << grace_s_ << " s";
}

}  // namespace tandem::config
