// tandemctl configure, validate: what this machine has, what it should be told, and whether it is fit to serve.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/model/model_folder.h"
#include "client/ctl/env_profile.h"
#include "client/ctl/machine.h"
#include "client/ctl/up.h"
#include "client/ctl/up_plan.h"
#include "client/ctl/verbs.h"
#include "config/units.h"

namespace tandem::client::ctl {
namespace {

constexpr uint64_t kLeastMemory = uint64_t{8} << 30;   // below it little more than a toy model fits
constexpr uint64_t kLeastShared = uint64_t{64} << 20;  // a group's exchange takes some MiB

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

enum class Verdict { kPass, kWarn, kFail };
struct Check {
  Verdict verdict;
  std::string what, why;
};

const char* Word(Verdict verdict) {
  static constexpr const char* kWords[] = {"PASS", "WARN", "FAIL"};
  return kWords[static_cast<int>(verdict)];
}

class Validator {
 public:
  Validator(const config::LoadedConfig& loaded, const Machine& machine) : loaded_(loaded), machine_(machine) {}

  std::vector<Check> Run() {
    Driver();
    Visibility();
    Memory();
    Links();
    for (const std::string& warning : loaded_.warnings) Add(Verdict::kWarn, "configuration", warning);
    Ports();
    Models();
    return std::move(checks_);
  }

 private:
  void Add(Verdict verdict, std::string what, std::string why) {
    checks_.push_back({verdict, std::move(what), std::move(why)});
  }

  bool WantsGpus() const {
    for (const std::string& device : loaded_.config.devices.select) {
      if (device.rfind("cuda:", 0) == 0) return true;
    }
    return false;
  }

  void Driver() {
    if (machine_.driver.empty()) {
      Add(WantsGpus() ? Verdict::kFail : Verdict::kPass, "driver",
          WantsGpus() ? "devices.select names GPUs, and no NVIDIA driver is loaded" : "none, and no GPU is asked for");
    } else if (machine_.gpus == 0) {
      Add(Verdict::kFail, "driver",
          absl::StrCat("version ", machine_.driver,
                       ", but no /dev/nvidia* is here; a container needs "
                       "its GPUs reserved"));
    } else {
      Add(Verdict::kPass, "driver", absl::StrCat("version ", machine_.driver));
    }
    Add(Verdict::kPass, "devices",
        absl::StrCat(machine_.gpus, machine_.gpus == 1 ? " GPU, " : " GPUs, ", machine_.cores,
                     machine_.cores == 1 ? " core" : " cores"));
  }

  void Visibility() {
    const config::Environment environment = config::ProcessEnvironment();
    const auto value = [&](const char* name) {
      const auto found = environment.find(name);
      return found == environment.end() ? std::string() : found->second;
    };
    if (const std::string order = value("CUDA_DEVICE_ORDER"); !order.empty() && order != "PCI_BUS_ID") {
      Add(Verdict::kWarn, "visibility", "CUDA_DEVICE_ORDER is not PCI_BUS_ID: indices are not those of nvidia-smi");
    }
    if (const std::string count = value("GPU_COUNT"); !count.empty() && count != absl::StrCat(machine_.gpus)) {
      Add(Verdict::kFail, "visibility",
          absl::StrCat("GPU_COUNT is ", count.substr(0, 16), ", and ", machine_.gpus, " are here"));
    }
    for (const char* name : {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"}) {
      const std::string list = value(name);
      if (list.empty() || list == "all" || list == "void" || list == "none") continue;
      for (absl::string_view one : absl::StrSplit(list, ',')) {
        int index = 0;
        if (!absl::SimpleAtoi(one, &index) || index < machine_.gpus || std::string(name) != "CUDA_VISIBLE_DEVICES")
          continue;
        Add(Verdict::kFail, "visibility",
            absl::StrCat(name, " names GPU ", index, ", and ", machine_.gpus,
                         " are here; inside a container they are numbered from 0"));
      }
    }
  }

  void Memory() {
    const std::string total = config::FormatBytesShort(machine_.memory_bytes);
    Add(machine_.memory_bytes >= kLeastMemory ? Verdict::kPass : Verdict::kWarn, "memory",
        machine_.memory_bytes >= kLeastMemory ? total
                                              : absl::StrCat(total, "; models of some size want 8GiB and more"));
    const std::string shared = config::FormatBytesShort(machine_.shared_bytes);
    Add(machine_.shared_bytes >= kLeastShared ? Verdict::kPass : Verdict::kFail, "shm",
        machine_.shared_bytes >= kLeastShared
            ? absl::StrCat(shared, " free in /dev/shm")
            : absl::StrCat(shared, " free in /dev/shm; ranks of a group meet there: shm_size: 8gb in compose"));
  }

  void Links() {
    Add(Verdict::kPass, "links",
        machine_.gpus < 2 ? "nothing to link" : "measured while the service is idle: tandemctl topology");
  }

  void Ports() {
    const config::ServerConfig& server = loaded_.config.server;
    const absl::Status free = CheckPortsFree(server);
    Add(free.ok() ? Verdict::kPass : Verdict::kFail, "ports",
        free.ok() ? absl::StrCat("free: ", server.clients, " ", server.workers, " ", server.admin)
                  : std::string(free.message()));
  }

  void Models() {
    if (loaded_.config.models.empty()) Add(Verdict::kWarn, "models", "none is configured");
    for (const config::ModelConfig& model : loaded_.config.models) {
      const auto folder = model::ResolveModelFolder(model.path, {loaded_.config.model_root, model::DefaultHubCache()});
      Add(folder.ok() ? Verdict::kPass : Verdict::kFail, absl::StrCat("model ", model.name),
          folder.ok() ? *folder : std::string(folder.status().message()));
    }
  }

  const config::LoadedConfig& loaded_;
  const Machine& machine_;
  std::vector<Check> checks_;
};

absl::Status Validate(const Context& context, bool strict, const std::string& format) {
  const auto loaded = config::LoadClusterConfig(context.config_path);
  if (!loaded.ok()) return loaded.status();
  const std::vector<Check> checks = Validator(*loaded, LookAround()).Run();
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
