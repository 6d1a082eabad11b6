#include "client/ctl/gpus.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tandem::client::ctl {

Gpus AskForGpus(const std::string& worker, const Patience& patience) {
  const absl::StatusOr<std::string> said = Ask({worker, "--list-devices"}, patience);
  if (absl::IsDeadlineExceeded(said.status())) {
    return {.why_none = absl::StrCat("the driver did not say which there are in ", absl::FormatDuration(patience.most),
                                     "; see whether nvidia-smi answers")};
  }
  if (!said.ok()) return {.why_none = std::string(said.status().message())};
  Gpus gpus;
  for (absl::string_view line : absl::StrSplit(*said, '\n', absl::SkipEmpty())) {
    if (absl::StartsWith(line, "cuda:")) {
      gpus.devices.emplace_back(line.substr(0, line.find(' ')));
    } else if (absl::ConsumePrefix(&line, "tandem-worker: ")) {
      gpus.why_none = std::string(line);
    }
  }
  return gpus;
}

}  // namespace tandem::client::ctl
