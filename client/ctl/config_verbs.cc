// tandemctl config show, config validate, replay, version: what needs no scheduler.
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <iostream>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/security/pem_files.h"
#include "client/ctl/print.h"
#include "client/ctl/verbs.h"
#include "config/cluster_config.h"
#include "config/security_rules.h"

namespace tandem::client::ctl {
namespace {

void Warn(const config::LoadedConfig& loaded) {
  for (const std::string& warning : loaded.warnings) std::cerr << "tandemctl: warning: " << warning << "\n";
}

absl::Status ShowConfig(const Context& context, bool origin) {
  const auto loaded = config::LoadClusterConfig(context.config_path, context.dial_flags);
  if (!loaded.ok()) return loaded.status();
  Warn(*loaded);
  Table table(origin ? std::vector<std::string>{"KEY", "VALUE", "FROM"} : std::vector<std::string>{"KEY", "VALUE"});
  for (const config::Setting& setting : loaded->settings) {
    std::vector<std::string> row = {setting.key, OrDash(setting.value)};
    if (origin) row.push_back(setting.origin);
    table.Add(std::move(row));
  }
  std::cout << table.ToString() << std::flush;
  return absl::OkStatus();
}

absl::Status ValidateConfig(const Context& context) {
  auto loaded = config::LoadClusterConfig(context.config_path, context.dial_flags);
  if (!loaded.ok()) return loaded.status();
  // Files of certificates and tokens too: what `up` on this machine would find.
  const config::SecurityConfig& security = loaded->config.security;
  for (const absl::Status& status : {config::CheckDoorFiles(security, absl::Now(), &loaded->warnings),
                                     security::CheckDoorFiles(security.http, absl::Now(), &loaded->warnings),
                                     security::Dialer::Open(security.dial, &loaded->warnings).status()}) {
    if (!status.ok()) return status;
  }
  Warn(*loaded);
  std::cout << (context.config_path.empty() ? "the defaults" : context.config_path) << ": valid, "
            << loaded->config.models.size() << " models" << std::endl;
  return absl::OkStatus();
}

// The core's journal is read by a program of its own, which links the core; this one does not.
absl::Status Replay(const std::vector<std::string>& arguments) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string program = (self.parent_path() / "tandem-replay").string();
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot run ", program));
}

}  // namespace

void AddConfig(CLI::App& app, Context& context) {
  auto origin = std::make_shared<bool>(false);
  CLI::App* config = app.add_subcommand("config", "Look at the configuration; the file is given by --config");
  config->require_subcommand(1);
  CLI::App* show = config->add_subcommand("show", "Print every value in force");
  show->add_flag("--origin", *origin, "And where it comes from: flag, environment, file and line, or default");
  show->callback([&context, origin] { context.exit_code = Report(ShowConfig(context, *origin)); });
  CLI::App* validate = config->add_subcommand("validate", "Read and check it, and do nothing else");
  validate->callback([&context] { context.exit_code = Report(ValidateConfig(context)); });
}

void AddReplay(CLI::App& app, Context& context) {
  auto arguments = std::make_shared<std::vector<std::string>>();
  CLI::App* replay = app.add_subcommand("replay", "Step a journal through the core again and print what it decided");
  replay->add_option("FILE", *arguments, "A journal segment of the scheduler's state folder")->required();
  replay->callback([&context, arguments] { context.exit_code = Report(Replay(*arguments)); });
}

void AddVersion(CLI::App& app, Context& context) {
  CLI::App* version = app.add_subcommand("version", "Print this program's version");
  version->callback([&context] {
    std::cout << "tandemctl " << TANDEM_VERSION << std::endl;
    context.exit_code = kOk;
  });
}

}  // namespace tandem::client::ctl
