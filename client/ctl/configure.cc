// tandemctl configure, validate: what this machine has, what it should be told, and whether it is fit to serve.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "client/ctl/env_profile.h"
#include "client/ctl/machine.h"
#include "client/ctl/machine_check.h"
#include "client/ctl/question.h"
#include "client/ctl/up.h"
#include "client/ctl/verbs.h"

namespace tandem::client::ctl {
namespace {

constexpr absl::Duration kReadsModels = absl::Minutes(5);

absl::Status Configure(const std::string& mode, const std::string& profile, const std::vector<std::string>& files,
                       bool print) {
  const Machine machine = LookAround();
  const auto variables = VariablesFor(mode, profile, machine);
  if (!variables.ok()) return variables.status();
  if (print) {
    std::cout << WithVariables("", *variables) << std::flush;
    return absl::OkStatus();
  }
  for (const std::string& path : files) {
    std::string text;
    if (std::ifstream file(path); file) text.assign(std::istreambuf_iterator<char>(file), {});
    const std::string fresh = WithVariables(text, *variables);
    if (fresh == text) {
      std::cout << path << ": as it was" << std::endl;
      continue;
    }
    std::ofstream file(path, std::ios::trunc);
    file << fresh;
    file.close();
    if (!file) return absl::FailedPreconditionError(absl::StrCat("cannot write ", path));
    std::cout << path << ": " << variables->size() << " variables for " << machine.gpus
              << (machine.gpus == 1 ? " GPU" : " GPUs") << " and profile " << profile << std::endl;
  }
  return absl::OkStatus();
}

// ---- validate -------------------------------------------------------------------------------------------------------

const char* Word(Verdict verdict) {
  static constexpr const char* kWords[] = {"PASS", "WARN", "FAIL"};
  return kWords[static_cast<int>(verdict)];
}

// As the scheduler reads them: in its words. A tokenizer takes a second.
std::string AskOfModels(const Context& context) {
  std::vector<std::string> argv = {OwnFolder() + "/tandem-scheduler", "--check-models"};
  if (!context.config_path.empty()) argv.insert(argv.end(), {"--config", context.config_path});
  const auto report = Ask(argv, {.most = kReadsModels});
  return report.ok() ? *report : std::string(report.status().message());
}

absl::Status Validate(const Context& context, bool strict, const std::string& format) {
  const auto loaded = config::LoadClusterConfig(context.config_path);
  if (!loaded.ok()) return loaded.status();
  const std::vector<Check> checks =
      CheckMachine(*loaded, LookAround(), config::ProcessEnvironment(), AskOfModels(context));
  int counts[3] = {};
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const Check& check : checks) {
    ++counts[static_cast<int>(check.verdict)];
    if (format == "json") {
      json.push_back({{"verdict", Word(check.verdict)}, {"check", check.what}, {"message", check.why}});
    } else {
      std::cout << Word(check.verdict) << "  " << check.what << ": " << check.why << "\n";
    }
  }
  const std::string sum = absl::StrCat(counts[0], " passed, ", counts[1], " to look at, ", counts[2], " failed");
  if (format == "json") {
    std::cout << nlohmann::ordered_json{{"checks", json}, {"pass", counts[0]}, {"warn", counts[1]}, {"fail", counts[2]}}
                     .dump(2)
              << std::endl;
  } else {
    std::cout << sum << std::endl;
  }
  if (counts[2] > 0 || (strict && counts[1] > 0)) return absl::UnknownError(absl::StrCat("not fit to serve: ", sum));
  return absl::OkStatus();
}

}  // namespace

void AddConfigure(CLI::App& app, Context& context) {
  const auto mode = std::make_shared<std::string>();
  const auto profile = std::make_shared<std::string>("production");
  const auto files = std::make_shared<std::vector<std::string>>();
  const auto print = std::make_shared<bool>(false);
  CLI::App* configure = app.add_subcommand("configure", "Set the variables of env files for this machine's GPUs");
  configure->add_option("mode", *mode, "auto, multi, single or cpu (also detect, dual, one, none)")->required();
  configure->add_option("--profile", *profile, "development, staging or production")->capture_default_str();
  configure->add_option("--env-file", *files, "The files to write (.env); several may be given");
  configure->add_flag("--print", *print, "Print the variables and write nothing");
  configure->callback([&context, mode, profile, files, print] {
    if (files->empty()) files->push_back(".env");
    context.exit_code = Report(Configure(*mode, *profile, *files, *print));
  });

  const auto strict = std::make_shared<bool>(false);
  const auto format = std::make_shared<std::string>("text");
  const auto env_file = std::make_shared<std::string>();
  CLI::App* validate = app.add_subcommand("validate", "Check whether this machine is fit to serve the configuration");
  validate->add_flag("--strict", *strict, "A warning fails too");
  validate->add_option("-o,--output", *format, "text or json")->check(CLI::IsMember({"text", "json"}));
  validate->add_option("--env-file", *env_file, "Variables to read first");
  validate->callback([&context, strict, format, env_file] {
    absl::Status status;
    if (!env_file->empty()) status = ReadEnvFile(*env_file);
    context.exit_code = Report(status.ok() ? Validate(context, *strict, *format) : status);
  });
}

}  // namespace tandem::client::ctl
