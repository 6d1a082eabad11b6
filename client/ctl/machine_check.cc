#include "client/ctl/machine_check.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/ctl/model_check.h"
#include "client/ctl/ports.h"
#include "config/units.h"

namespace tandem::client::ctl {
namespace {

constexpr uint64_t kLeastMemory = uint64_t{8} << 30;   // below it little more than a toy model fits
constexpr uint64_t kLeastShared = uint64_t{64} << 20;  // a group's exchange takes some MiB

class Validator {
 public:
  Validator(const config::LoadedConfig& loaded, const Machine& machine, const config::Environment& environment,
            absl::string_view models)
      : loaded_(loaded), machine_(machine), environment_(environment), models_(models) {}

  std::vector<Check> Run() {
    Driver();
    Visibility();
    Memory();
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
  }

  // How many GPUs CUDA will show; as CUDA reads it, the first entry that is none ends the list.
  int Visible() {
    const auto given = environment_.find("CUDA_VISIBLE_DEVICES");
    if (given == environment_.end()) return machine_.gpus;
    int visible = 0;
    for (absl::string_view one : absl::StrSplit(given->second, ',', absl::SkipEmpty())) {
      one = absl::StripAsciiWhitespace(one);
      if (one == "-1") break;  // the end of the list, by its own will
      const std::string wrong = WhyNoGpu(one);
      if (wrong.empty()) {
        ++visible;
        continue;
      }
      Add(Verdict::kFail, "visibility", absl::StrCat("CUDA_VISIBLE_DEVICES names ", one.substr(0, 48), ": ", wrong));
      break;
    }
    return visible;
  }

  std::string WhyNoGpu(absl::string_view one) const {
    int index = 0;
    if (absl::SimpleAtoi(one, &index)) {
      if (index >= 0 && index < machine_.gpus) return "";
      return absl::StrCat(machine_.gpus, machine_.gpus == 1 ? " is" : " are",
                          " here; inside a container they are numbered from 0");
    }
    if (!absl::StartsWith(one, "GPU-")) return "neither an index nor the beginning of a UUID";
    const bool known = std::any_of(machine_.uuids.begin(), machine_.uuids.end(),
                                   [one](const std::string& uuid) { return absl::StartsWith(uuid, one); });
    return known ? ""
                 : absl::StrCat("no GPU of this machine has that UUID (",
                                machine_.uuids.empty() ? "none is told" : absl::StrJoin(machine_.uuids, ", "), ")");
  }

  void Visibility() {
    const auto value = [&](const char* name) {
      const auto found = environment_.find(name);
      return found == environment_.end() ? std::string() : found->second;
    };
    const size_t before = checks_.size();
    if (const std::string order = value("CUDA_DEVICE_ORDER"); !order.empty() && order != "PCI_BUS_ID") {
      Add(Verdict::kWarn, "visibility", "CUDA_DEVICE_ORDER is not PCI_BUS_ID: indices are not those of nvidia-smi");
    }
    const int visible = Visible();
    if (const std::string count = value("GPU_COUNT"); !count.empty() && count != absl::StrCat(visible)) {
      Add(Verdict::kFail, "visibility",
          absl::StrCat("GPU_COUNT is ", count.substr(0, 16), ", and ", visible, " are to be used here"));
    }
    GivenToContainer(value("NVIDIA_VISIBLE_DEVICES"));
    if (checks_.size() > before) return;
    Add(Verdict::kPass, "visibility", absl::StrCat(visible, " of ", machine_.gpus, " GPUs are to be used"));
  }

  // What the container's runtime was told, against what it gave.
  void GivenToContainer(const std::string& list) {
    if (list.empty() || list == "all") return;
    const bool none = list == "none" || list == "void";
    const std::vector<std::string> named = absl::StrSplit(list, ',', absl::SkipWhitespace());
    const int wanted = none ? 0 : static_cast<int>(named.size());
    if (wanted == machine_.gpus) return;
    Add(Verdict::kWarn, "visibility",
        absl::StrCat("NVIDIA_VISIBLE_DEVICES asks for ", wanted, wanted == 1 ? " GPU" : " GPUs", ", and ",
                     machine_.gpus, machine_.gpus == 1 ? " is" : " are", " here: no container runtime has heeded it"));
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

  void Ports() {
    const config::ServerConfig& server = loaded_.config.server;
    const absl::Status free = CheckPortsFree(server, /*http=*/true);
    Add(free.ok() ? Verdict::kPass : Verdict::kFail, "ports",
        free.ok() ? absl::StrCat("free: ", server.clients, " ", server.workers, " ", server.admin, " ", server.http,
                                 " ", server.metrics)
                  : std::string(free.message()));
  }

  void Models() {
    if (loaded_.config.models.empty()) Add(Verdict::kWarn, "models", "none is configured");
    for (Check& check : CheckModels(loaded_.config, machine_, models_)) checks_.push_back(std::move(check));
  }

  const config::LoadedConfig& loaded_;
  const Machine& machine_;
  const config::Environment& environment_;
  const absl::string_view models_;
  std::vector<Check> checks_;
};

}  // namespace

std::vector<Check> CheckMachine(const config::LoadedConfig& loaded, const Machine& machine,
                                const config::Environment& environment, absl::string_view models) {
  return Validator(loaded, machine, environment, models).Run();
}

}  // namespace tandem::client::ctl
