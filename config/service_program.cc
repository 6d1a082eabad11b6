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
  app_.add_option("--log-level", log_level_, "0 all, 1 warnings, 2 errors (0)")->check(CLI::Range(0, 2));
  Layered("--log-format", "log.format", "text or json (text)");
  app_.add_flag("--die-with-parent", die_with_parent_, "End when the process that started this one does");
}

void ServiceProgram::DoorFlags() {
  Layered("--stop-grace", "server.stop_grace", "How long what is under way gets after SIGTERM, as 10s (30s)");
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
  } catch (const CLI::Success& e) {
    return app_.exit(e);
  } catch (const CLI::ParseError& e) {
    Fail(e.what());
    return kExitUsage;
  }
  FLAGS_minloglevel = log_level_;
  notifier_ = std::make_shared<Notifier>();
  if (die_with_parent_) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) return Fail("the process that started this one has ended");
  }
  sigemptyset(&ends_);
  sigaddset(&ends_, SIGTERM);
  sigaddset(&ends_, SIGINT);
  sigset_t kept = ends_;  // SIGUSR1 would end a program that does not wait for it
  sigaddset(&kept, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &kept, nullptr);
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

int ServiceProgram::AwaitEnd(bool finishes_first) {
  sigset_t awaited = ends_;
  if (finishes_first) sigaddset(&awaited, SIGUSR1);
  int number = 0;
  sigwait(&awaited, &number);
  LOG(INFO) << "signal " << number << ": what is under way gets up to " << absl::FormatDuration(stop_grace())
            << "; another signal ends that";
  return number;
}

bool ServiceProgram::HurriedOn() {
  const timespec at_once = {};
  hurried_on_ = hurried_on_ || sigtimedwait(&ends_, nullptr, &at_once) > 0;
  return hurried_on_;
}

}  // namespace tandem::config
