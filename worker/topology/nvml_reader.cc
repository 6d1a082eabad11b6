#include "worker/topology/nvml_reader.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "worker/topology/nvml_api.h"

namespace tandem::worker {
namespace {

using nvml::Return;
using placement::PathKind;

constexpr unsigned kMostDevices = 256;

PathKind KindOf(int level) {
  switch (level) {
    case nvml::kInternal:  // two chips of one board meet at its switch
    case nvml::kSingle:
      return PathKind::kPix;
    case nvml::kMultiple:
      return PathKind::kPxb;
    case nvml::kHostBridge:
      return PathKind::kPhb;
    case nvml::kNode:
      return PathKind::kNode;
    default:
      return PathKind::kSys;
  }
}

class Reader {
 public:
  explicit Reader(const nvml::Api& api) : api_(api) {}

  absl::StatusOr<NvmlFacts> Run() {
    unsigned count = 0;
    if (Return error = api_.count(&count); error != nvml::kSuccess) {
      return absl::FailedPreconditionError(absl::StrCat("NVML does not count the devices: ", Words(error)));
    }
    for (unsigned i = 0; i < std::min(count, kMostDevices); ++i) AddDevice(i);
    CountNvLinks();
    for (int a = 0; a < size(); ++a) {
      for (int b = a + 1; b < size(); ++b) facts_.links.push_back(LinkOf(a, b));
    }
    return std::move(facts_);
  }

 private:
  using Place = std::tuple<unsigned, unsigned, unsigned>;  // domain, bus, device

  int size() const { return static_cast<int>(facts_.devices.size()); }
  std::string Words(Return error) const { return api_.Words(error); }
  template <typename... Parts>
  void Note(const Parts&... parts) {
    facts_.notes.push_back(absl::StrCat(parts...));
  }
  // Calls what may be absent or fail. NOT_SUPPORTED is an answer, not worth a note.
  template <typename... Wanted, typename... Given>
  bool Ask(const char* fact, int device, Return (*function)(Wanted...), Given... given) {
    if (function == nullptr) {
      const std::string note = absl::StrCat("this driver does not tell ", fact);
      if (std::find(facts_.notes.begin(), facts_.notes.end(), note) == facts_.notes.end()) Note(note);
      return false;
    }
    const Return error = function(given...);
    if (error != nvml::kSuccess && error != nvml::kNotSupported) {
      Note("device ", device, " does not tell ", fact, ": ", Words(error));
    }
    return error == nvml::kSuccess;
  }

  // A device without a handle or an address has no part in anything, and is left out.
  void AddDevice(unsigned index) {
    const int number = static_cast<int>(index);
    nvml::Device handle = nullptr;
    nvml::PciInfo pci{};
    if (!Ask("its handle", number, api_.handle, index, &handle)) return;
    if (!Ask("its PCI address", number, api_.pci, handle, &pci)) return;
    NvmlDevice device;
    pci.bus_id[sizeof(pci.bus_id) - 1] = '\0';
    device.bus_id = absl::AsciiStrToLower(pci.bus_id);
    char text[128] = "";
    if (Ask("its name", number, api_.name, handle, text, unsigned{sizeof(text) - 1})) device.name = text;
    if (Ask("its uuid", number, api_.uuid, handle, text, unsigned{sizeof(text) - 1})) device.uuid = text;
    ReadMemory(number, handle, device);
    unsigned long nodes[16] = {};
    if (Ask("its NUMA node", number, api_.memory_affinity, handle, unsigned{16}, &nodes[0], nvml::kScopeNode)) {
      for (int bit = 1023; bit >= 0; --bit) {
        if (nodes[bit / 64] >> bit % 64 & 1) device.numa = bit;
      }
    }
    unsigned mig = 0, pending = 0;
    if (Ask("its MIG mode", number, api_.mig_mode, handle, &mig, &pending)) device.mig = mig != 0;
    if (device.mig) Note("device ", index, " is in MIG mode: its slices reach no peer, so its NVLinks are not counted");
    places_[{pci.domain, pci.bus, pci.device}] = size();
    handles_.push_back(handle);
    facts_.devices.push_back(std::move(device));
  }

  void ReadMemory(int number, nvml::Device handle, NvmlDevice& device) {
    nvml::MemoryV2 second{.version = nvml::kMemoryV2};
    if (api_.memory_v2 != nullptr && api_.memory_v2(handle, &second) == nvml::kSuccess) {
      device.memory_total = static_cast<int64_t>(second.total);
      device.memory_free = static_cast<int64_t>(second.free);
      return;
    }
    nvml::Memory first{};
    if (!Ask("its memory", number, api_.memory, handle, &first)) return;
    device.memory_total = static_cast<int64_t>(first.total);
    device.memory_free = static_cast<int64_t>(first.free);
  }

  void CountNvLinks() {
    to_switch_.assign(size(), 0);
    to_peer_.assign(size(), std::vector<int>(size(), 0));
    if (api_.nvlink_state == nullptr && size() > 1) Note("this driver does not tell NVLinks");
    for (int d = 0; d < size() && api_.nvlink_state != nullptr; ++d) {
      if (facts_.devices[d].mig) continue;
      for (unsigned link = 0; link < nvml::kMostNvLinks; ++link) {
        int active = 0;
        const Return error = api_.nvlink_state(handles_[d], link, &active);
        if (error == nvml::kNotSupported || error == nvml::kInvalidArgument) break;  // no such link, and none behind it
        if (error != nvml::kSuccess) {
          Note("device ", d, " does not tell its NVLink ", link, ": ", Words(error));
          break;
        }
        if (active != 0) CountNvLink(d, link);
      }
    }
  }

  // A far end that is neither a GPU of ours nor typed is a switch that this driver does not show.
  void CountNvLink(int d, unsigned link) {
    int type = nvml::kRemoteUnknown;
    if (!Ask("what its NVLinks lead to", d, api_.nvlink_remote_type, handles_[d], link, &type)) {
      type = nvml::kRemoteUnknown;
    }
    if (type == nvml::kRemoteIbmNpu) return;
    if (type == nvml::kRemoteSwitch) {
      ++to_switch_[d];
      return;
    }
    nvml::PciInfo far{};
    if (!Ask("where its NVLinks lead", d, api_.nvlink_remote_pci, handles_[d], link, &far)) return;
    const auto peer = places_.find({far.domain, far.bus, far.device});
    if (peer != places_.end() && peer->second != d) {
      ++to_peer_[d][peer->second];
    } else if (type == nvml::kRemoteUnknown) {
      ++to_switch_[d];
    }
  }

  NvmlLink LinkOf(int a, int b) {
    NvmlLink link{.a = a, .b = b};
    int level = nvml::kSystem;
    Ask("its place on the PCIe tree", a, api_.common_ancestor, handles_[a], handles_[b], &level);
    link.kind = link.pcie = KindOf(level);
    const int direct = std::min(to_peer_[a][b], to_peer_[b][a]);
    const int switched = std::min(to_switch_[a], to_switch_[b]);
    if (to_peer_[a][b] != to_peer_[b][a]) {
      Note("devices ", a, " and ", b, " disagree on their NVLinks: ", to_peer_[a][b], " and ", to_peer_[b][a],
           "; the lesser counts");
    }
    if (switched > 0) {
      link.kind = PathKind::kNvSwitch;
      link.nvlinks = switched;
    } else if (direct > 0) {
      link.kind = PathKind::kNvLink;
      link.nvlinks = direct;
    }
    int read = nvml::kPeerUnknown, write = nvml::kPeerUnknown;
    const bool told = Ask("peer access", a, api_.peer_status, handles_[a], handles_[b], int{nvml::kPeerRead}, &read) &&
                      Ask("peer access", a, api_.peer_status, handles_[a], handles_[b], int{nvml::kPeerWrite}, &write);
    if (told && read != nvml::kPeerUnknown && write != nvml::kPeerUnknown) {
      link.peer_access = read == nvml::kPeerOk && write == nvml::kPeerOk;
      if (!*link.peer_access && link.nvlinks > 0) {
        Note("devices ", a, " and ", b, " are joined by NVLink and may not reach each other's memory (status ", read,
             "); check the driver's settings");
      }
    }
    return link;
  }

  const nvml::Api& api_;
  NvmlFacts facts_;
  std::vector<nvml::Device> handles_;
  std::map<Place, int> places_;
  std::vector<int> to_switch_;
  std::vector<std::vector<int>> to_peer_;
};

}  // namespace

absl::StatusOr<NvmlFacts> ReadNvml(const std::string& name) {
  absl::StatusOr<nvml::Session> session = nvml::Session::Open(name);
  if (!session.ok()) return session.status();
  return Reader(session->api()).Run();
}

}  // namespace tandem::worker
