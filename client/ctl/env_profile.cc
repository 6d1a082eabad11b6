#include "client/ctl/env_profile.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tandem::client::ctl {
namespace {

// The name that the line sets; empty where it sets none.
absl::string_view NameIn(absl::string_view line) {
  line = absl::StripAsciiWhitespace(line);
  absl::ConsumePrefix(&line, "export ");
  const size_t equals = line.find('=');
  if (equals == absl::string_view::npos || line.empty() || line.front() == '#') return "";
  return absl::StripAsciiWhitespace(line.substr(0, equals));
}

}  // namespace

absl::StatusOr<Variables> VariablesFor(const std::string& mode, const std::string& profile, const Machine& machine) {
  const std::map<std::string, std::string> same = {
      {"detect", "auto"}, {"dual", "multi"}, {"one", "single"}, {"none", "cpu"}};
  const auto synonym = same.find(mode);
  std::string kind = synonym == same.end() ? mode : synonym->second;
  if (kind == "auto") kind = machine.gpus == 0 ? "cpu" : machine.gpus == 1 ? "single" : "multi";
  const std::map<std::string, std::string> shares = {
      {"development", "0.80"}, {"staging", "0.85"}, {"production", "0.90"}};
  const auto share = shares.find(profile);
  if (share == shares.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--profile: \"", profile.substr(0, 64), "\": development, staging or production"));
  }
  const int wanted = kind == "multi" ? 2 : kind == "single" ? 1 : 0;
  if (kind != "multi" && kind != "single" && kind != "cpu") {
    return absl::InvalidArgumentError(absl::StrCat("\"", mode.substr(0, 64), "\": auto, multi, single or cpu"));
  }
  if (machine.gpus < wanted) {
    return absl::FailedPreconditionError(absl::StrCat(kind, " wants ", wanted, wanted == 1 ? " GPU" : " GPUs",
                                                      " at least; ", machine.gpus, machine.gpus == 1 ? " is" : " are",
                                                      " visible here (/dev/nvidia*); use auto"));
  }
  const int gpus = kind == "multi" ? machine.gpus : wanted;
  std::vector<int> indices;
  for (int i = 0; i < gpus; ++i) indices.push_back(i);
  // Not VLLM_TENSOR_PARALLEL_SIZE: how many ranks a group has best, the step model finds; who knows better sets it.
  return Variables{{"CUDA_DEVICE_ORDER", "PCI_BUS_ID"},
                   {"CUDA_VISIBLE_DEVICES", absl::StrJoin(indices, ",")},
                   {"GPU_COUNT", absl::StrCat(gpus)},
                   {"VLLM_PIPELINE_PARALLEL_SIZE", "1"},
                   {"VLLM_GPU_MEMORY_UTILIZATION", gpus == 0 ? "0.0" : share->second},
                   {"TANDEM_PROFILE", profile}};
}

std::string WithVariables(const std::string& text, const Variables& variables) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  std::set<std::string> done;
  std::vector<std::string> out;
  for (const std::string& line : lines) {
    const std::string name(NameIn(line));
    const auto variable =
        std::find_if(variables.begin(), variables.end(), [&](const auto& one) { return one.first == name; });
    if (variable == variables.end()) {
      out.push_back(line);
    } else if (done.insert(name).second) {  // a second line of the name would win over the first
      out.push_back(absl::StrCat(name, "=", variable->second));
    }
  }
  for (const auto& [name, value] : variables) {
    if (!done.contains(name)) out.push_back(absl::StrCat(name, "=", value));
  }
  return absl::StrJoin(out, "\n") + "\n";
}

}  // namespace tandem::client::ctl
