#include "client/ctl/model_check.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "config/units.h"

namespace tandem::client::ctl {
namespace {

using nlohmann::json;

// As `up` chooses them.
std::map<std::string, int> DevicesByKind(const config::DevicesConfig& devices, const Machine& machine) {
  std::map<std::string, int> kinds;
  for (const std::string& device : devices.select) ++kinds[device.substr(0, device.find(':'))];
  if (!kinds.empty()) return kinds;
  if (machine.gpus > 0) return {{"cuda", machine.gpus}};
  return {{"cpu", machine.cores >= 2 ? 2 : 1}};
}

// What the model may have of a CPU device, by the rules of workers and the scheduler.
int64_t ShareOfCpu(const config::DevicesConfig& devices, const config::ModelConfig& model, const Machine& machine,
                   int cpus) {
  const uint64_t total = devices.cpu_memory_bytes > 0 ? devices.cpu_memory_bytes : machine.memory_bytes / cpus;
  const uint64_t ours = total - std::min(devices.reserve_bytes, total);
  return static_cast<int64_t>(std::min(devices.memory_utilization * static_cast<double>(ours),
                                       model.memory_utilization * static_cast<double>(total)));
}

class Fit {
 public:
  Fit(const config::ClusterConfig& config, const config::ModelConfig& model, const Machine& machine)
      : config_(config), model_(model), machine_(machine), kinds_(DevicesByKind(config.devices, machine)) {}

  // Nothing: a group of this shape fits. Else why none does, once for each kind of device.
  std::optional<std::string> WhyNot(const json& need) const {
    const int ranks = need.value("ranks", 1);
    if (const auto never = need.find("impossible"); never != need.end()) return never->get<std::string>();
    std::vector<std::string> reasons;
    for (const auto& [kind, count] : kinds_) {
      const int64_t share = kind == "cpu" ? ShareOfCpu(config_.devices, model_, machine_, count) : INT64_MAX;
      const int64_t least = need.value(kind, int64_t{0});
      if (count < ranks) {
        reasons.push_back(absl::StrCat("a group of ", ranks, " on this machine's ", count, " ", kind,
                                       count == 1 ? " device" : " devices"));
      } else if (share < least) {
        reasons.push_back(absl::StrCat("a ", kind, " device has ", config::FormatBytesShort(share), " for it, and ",
                                       ranks == 1 ? "it needs " : absl::StrCat("each of ", ranks, " ranks needs "),
                                       config::FormatBytesShort(least)));
      } else {
        return std::nullopt;
      }
    }
    return absl::StrJoin(reasons, "; ");
  }

 private:
  const config::ClusterConfig& config_;
  const config::ModelConfig& model_;
  const Machine& machine_;
  const std::map<std::string, int> kinds_;
};

Check CheckModel(const config::ClusterConfig& config, const config::ModelConfig& model, const Machine& machine,
                 const json& said) {
  const std::string what = absl::StrCat("model ", model.name);
  if (const auto error = said.find("error"); error != said.end()) {
    std::string why = error->get<std::string>();
    if (absl::StartsWith(why, what + ": ")) why.erase(0, what.size() + 2);
    return {Verdict::kFail, what, std::move(why)};
  }
  const Fit fit(config, model, machine);
  std::vector<std::string> reasons;
  for (const json& need : said.value("needs", json::array())) {
    const std::optional<std::string> why = fit.WhyNot(need);
    if (!why.has_value()) {
      const int ranks = need.value("ranks", 1);
      return {Verdict::kPass, what, absl::StrCat(model.path, ", on ", ranks, ranks == 1 ? " device" : " devices")};
    }
    reasons.push_back(*why);
  }
  return {Verdict::kFail, what, absl::StrCat("fits in no way: ", absl::StrJoin(reasons, "; "))};
}

}  // namespace

std::vector<Check> CheckModels(const config::ClusterConfig& config, const Machine& machine, absl::string_view report) {
  std::map<std::string, json> lines;
  std::string last = "nothing";  // what is no answer, and may say why there is none
  for (absl::string_view line : absl::StrSplit(report, '\n', absl::SkipEmpty())) {
    json said = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (said.is_object() && said.contains("model")) {
      const std::string name = said["model"];
      lines[name] = std::move(said);
    } else {
      last = std::string(line);
    }
  }
  std::vector<Check> checks;
  for (const config::ModelConfig& model : config.models) {
    const auto said = lines.find(model.name);
    checks.push_back(said != lines.end() ? CheckModel(config, model, machine, said->second)
                                         : Check{Verdict::kFail, absl::StrCat("model ", model.name),
                                                 absl::StrCat("the scheduler did not read it, and said: ", last)});
  }
  return checks;
}

}  // namespace tandem::client::ctl
