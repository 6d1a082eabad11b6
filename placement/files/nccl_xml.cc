#include "placement/files/nccl_xml.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "placement/files/xml_tree.h"

namespace tandem::placement {
namespace {

constexpr int64_t kMostLanes = 64;
constexpr int64_t kMostNetMbits = 100'000'000;
constexpr int64_t kUnknownNetMbits = 10'000;  // as NCCL takes it
constexpr int kMostNvLinkCount = 36;
constexpr int kFullWidth = 16;

// Classes of PCI devices that compute, where a file has no <gpu>: display and processing accelerators.
constexpr const char* kGpuClasses[] = {"0x0302", "0x0300", "0x0380", "0x1200"};
// Far ends of an NVLink.
constexpr char kSwitchClass[] = "0x0680";
constexpr char kCpuClass[] = "0x068001";

// MB/s of sixteen lanes, by gigatransfers per second.
struct Generation {
  double gigatransfers;
  int64_t mbps;
};
constexpr Generation kGenerations[] = {{2.5, 3'000}, {5, 6'000}, {8, 12'000}, {16, 24'000}, {32, 48'000}, {64, 96'000}};

struct Cpu {
  int numa = -1;
  int64_t socket_mbps = 0;  // 0: not known
};

// One <pci> on the way from a device up to its CPU.
struct Step {
  const XmlElement* pci;
  int64_t mbps;  // 0: the file does not say
};

struct FoundGpu {
  int line = 0;
  std::string bus_id;
  int cpu = 0;              // index
  std::vector<Step> steps;  // its own first, then upwards
  int64_t dev = -1, sm = 0;
  bool amd = false;
  int switch_links = 0;
  int64_t link_mbps = 0;             // of one direct link; 0: the chip's
  std::map<std::string, int> links;  // direct, by the far end's address
};

// "0000:0f:00.0" from any way to write it; empty if it is no address.
std::string BusId(absl::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(text, absl::ByAnyChar(":."));
  if (parts.size() != 4) return "";
  uint32_t numbers[4];
  for (int i = 0; i < 4; ++i) {
    if (parts[i].empty() || parts[i].size() > 8 ||
        !std::all_of(parts[i].begin(), parts[i].end(), absl::ascii_isxdigit)) {
      return "";
    }
    numbers[i] = static_cast<uint32_t>(std::stoul(parts[i], nullptr, 16));
  }
  if (numbers[1] > 0xff || numbers[2] > 0xff || numbers[3] > 0xf) return "";
  return absl::StrFormat("%04x:%02x:%02x.%x", numbers[0], numbers[1], numbers[2], numbers[3]);
}

class Reader {
 public:
  Reader(absl::string_view file, const ReadOptions& options) : file_(file), options_(options) {}

  absl::StatusOr<Host> Read(absl::string_view text) {
    absl::StatusOr<const Chip*> chip = NamedChip(options_.gpu);
    if (!chip.ok()) return chip.status();
    const auto root = ParseXml(text, file_, kMostXmlBytes, kMostXmlDepth);
    if (!root.ok()) return root.status();
    if (absl::Status status = ReadSystem(**root); !status.ok()) return status;
    if (gpus_.empty()) gpus_ = std::move(by_class_);
    if (gpus_.empty()) return Bad((*root)->line, "no GPU in it, neither <gpu> nor <pci> of a display class");
    if (gpus_.size() > kMostDevicesOfHost) {
      return Bad(gpus_[kMostDevicesOfHost].line, absl::StrCat(gpus_.size(), " GPUs; at most ", kMostDevicesOfHost));
    }
    if (absl::Status status = Order(); !status.ok()) return status;
    absl::StatusOr<Host> host = ToHost(*chip);
    if (!host.ok()) return host.status();
    int64_t socket_mbps = 0;
    for (const Cpu& cpu : cpus_) {
      if (cpu.socket_mbps > 0 && (socket_mbps == 0 || cpu.socket_mbps < socket_mbps)) socket_mbps = cpu.socket_mbps;
    }
    return Finish(*std::move(host), options_, file_, socket_mbps);
  }

 private:
  absl::Status Bad(int line, absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(file_, ":", line, ": ", what));
  }

  // An attribute that is a whole number in [least, most]; `otherwise` where it is not there.
  absl::StatusOr<int64_t> Number(const XmlElement& element, absl::string_view key, int64_t least, int64_t most,
                                 int64_t otherwise) const {
    const std::string* text = element.Attribute(key);
    if (text == nullptr || text->empty()) return otherwise;
    int64_t value = 0;
    if (!absl::SimpleAtoi(*text, &value) || value < least || value > most) {
      return Bad(element.line, absl::StrCat("<", element.name, "> ", key, "=", Quoted(*text),
                                            "; expected a number from ", least, " to ", most));
    }
    return value;
  }

  absl::Status ReadSystem(const XmlElement& root) {
    if (root.name != "system") {
      return Bad(root.line, absl::StrCat("<", root.name.substr(0, 40), ">; a topology of NCCL starts with <system>"));
    }
    const absl::StatusOr<int64_t> version = Number(root, "version", 1, 2, 1);
    if (!version.ok()) return version.status();
    for (const auto& child : root.children) {
      if (child->name != "cpu") continue;
      if (absl::Status status = ReadCpu(*child); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status ReadCpu(const XmlElement& cpu) {
    const absl::StatusOr<int64_t> numa = Number(cpu, "numaid", -1, 4095, -1);
    if (!numa.ok()) return numa.status();
    if (*numa >= 0 && !numas_.insert(*numa).second)
      return Bad(cpu.line, absl::StrCat("<cpu> numaid=", *numa, " twice"));
    const std::string* host_hash = cpu.Attribute("host_hash");
    if (host_hash != nullptr) {
      if (!host_hash_.empty() && *host_hash != host_hash_) {
        return Bad(cpu.line, "CPUs of several hosts (host_hash differs); give one file for each host");
      }
      host_hash_ = *host_hash;
    }
    const absl::StatusOr<int64_t> model = Number(cpu, "modelid", 0, 1 << 20, 0);
    if (!model.ok()) return model.status();
    cpus_.push_back({static_cast<int>(*numa), SocketMbps(cpu, *model)});
    return ReadChildren(cpu, {});
  }

  // What NCCL takes for the way between two sockets of this make.
  static int64_t SocketMbps(const XmlElement& cpu, int64_t model) {
    const std::string* vendor = cpu.Attribute("vendor");
    const std::string* arch = cpu.Attribute("arch");
    if (vendor != nullptr && *vendor == "GenuineIntel") {
      if (model >= 0xcf) return 40'000;  // Emerald Rapids
      if (model >= 0x8f) return 22'000;  // Sapphire Rapids
      return model >= 0x55 ? 10'000 : 6'000;
    }
    if (vendor != nullptr && *vendor == "AuthenticAMD") return 16'000;
    if (arch != nullptr && *arch == "ppc64") return 32'000;
    if (arch != nullptr && *arch == "arm64") return 6'000;
    return 0;
  }

  absl::Status ReadChildren(const XmlElement& parent, const std::vector<Step>& up) {
    for (const auto& child : parent.children) {
      absl::Status status;
      if (child->name == "pci") {
        status = ReadPci(*child, up);
      } else if (child->name == "nic") {
        status = ReadNic(*child);
      } else if (child->name == "gpu" && up.empty()) {
        status = Bad(child->line, "<gpu> outside of any <pci>; it needs an address");
      }
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status ReadPci(const XmlElement& pci, const std::vector<Step>& up) {
    const std::string* text = pci.Attribute("busid");
    const std::string bus_id = text == nullptr ? "" : BusId(*text);
    if (bus_id.empty()) {
      return Bad(pci.line, absl::StrCat("<pci> busid=", text == nullptr ? "none" : Quoted(*text),
                                        "; expected an address such as 0000:0f:00.0"));
    }
    if (const auto [seen, is_new] = bus_ids_.emplace(bus_id, pci.line); !is_new) {
      return Bad(pci.line, absl::StrCat("<pci> ", bus_id, ": line ", seen->second, " has that address already"));
    }
    const absl::StatusOr<int64_t> mbps = PciMbps(pci);
    if (!mbps.ok()) return mbps.status();
    std::vector<Step> steps = {{&pci, *mbps}};
    steps.insert(steps.end(), up.begin(), up.end());

    FoundGpu found;
    found.line = pci.line;
    found.bus_id = bus_id;
    found.cpu = static_cast<int>(cpus_.size()) - 1;
    found.steps = steps;
    bool has_gpu = false;
    for (const auto& child : pci.children) {
      if (child->name != "gpu") continue;
      if (has_gpu) return Bad(child->line, absl::StrCat("<pci> ", bus_id, " has two <gpu>"));
      has_gpu = true;
      if (absl::Status status = ReadGpu(*child, found); !status.ok()) return status;
    }
    if (has_gpu) {
      gpus_.push_back(std::move(found));
    } else if (IsGpuClass(pci)) {
      by_class_.push_back(std::move(found));
    }
    return ReadChildren(pci, steps);
  }

  static bool IsGpuClass(const XmlElement& pci) {
    const std::string* cls = pci.Attribute("class");
    const std::string* vendor = pci.Attribute("vendor");
    // Management controllers draw a console too.
    if (vendor != nullptr && *vendor != "0x10de" && *vendor != "0x1002") return false;
    return cls != nullptr && std::any_of(std::begin(kGpuClasses), std::end(kGpuClasses),
                                         [&](const char* gpu) { return absl::StartsWith(*cls, gpu); });
  }

  absl::StatusOr<int64_t> PciMbps(const XmlElement& pci) const {
    const absl::StatusOr<int64_t> width = Number(pci, "link_width", 0, 255, 0);
    if (!width.ok()) return width.status();
    // 0 and 255 are what the kernel says of a link that it cannot see.
    const int64_t lanes = *width == 0 || *width == 255 ? kFullWidth : *width;
    if (lanes > kMostLanes) {
      return Bad(pci.line, absl::StrCat("<pci> link_width=", lanes, "; at most ", kMostLanes, " lanes"));
    }
    const std::string* text = pci.Attribute("link_speed");
    if (text == nullptr || text->empty() || absl::StartsWith(*text, "Unknown")) return 0;
    const size_t end = text->find(' ');
    double gigatransfers = 0;
    if (absl::SimpleAtod(text->substr(0, end), &gigatransfers)) {
      for (const Generation& generation : kGenerations) {
        if (gigatransfers == generation.gigatransfers) return generation.mbps * lanes / kFullWidth;
      }
    }
    return Bad(pci.line, absl::StrCat("<pci> link_speed=", Quoted(*text),
                                      "; expected 2.5, 5, 8, 16, 32 or 64 GT/s, such as \"16.0 GT/s PCIe\""));
  }

  absl::Status ReadGpu(const XmlElement& gpu, FoundGpu& found) {
    const absl::StatusOr<int64_t> dev = Number(gpu, "dev", 0, 4095, -1);
    if (!dev.ok()) return dev.status();
    const absl::StatusOr<int64_t> sm = Number(gpu, "sm", 0, 100'000, 0);
    if (!sm.ok()) return sm.status();
    found.dev = *dev;
    found.sm = *sm;
    found.amd = gpu.Attribute("gcn") != nullptr;
    for (const auto& child : gpu.children) {
      if (child->name != "nvlink" && child->name != "xgmi") continue;
      if (absl::Status status = ReadLink(*child, found); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status ReadLink(const XmlElement& link, FoundGpu& found) {
    const absl::StatusOr<int64_t> count = Number(link, "count", 1, kMostNvLinkCount, 1);
    if (!count.ok()) return count.status();
    const std::string* target = link.Attribute("target");
    if (target == nullptr) return Bad(link.line, absl::StrCat("<", link.name, "> has no target; it needs an address"));
    const std::string* tclass = link.Attribute("tclass");
    if (tclass != nullptr && *tclass == kCpuClass) return absl::OkStatus();
    int* links = &found.switch_links;
    if (link.name == "xgmi") found.link_mbps = kXgmiMbps;
    // A virtual machine does not see its switches: NCCL calls them -1 then, or an address that cannot be.
    const bool to_switch = (tclass != nullptr && absl::StartsWith(*tclass, kSwitchClass)) || *target == "-1";
    if (!to_switch) {
      const std::string far = BusId(*target);
      if (far.empty()) {
        return Bad(link.line, absl::StrCat("<", link.name, "> target=", Quoted(*target), "; expected an address"));
      }
      if (far == found.bus_id) return Bad(link.line, absl::StrCat("<", link.name, "> from ", far, " to itself"));
      links = &found.links[far];
    }
    *links += static_cast<int>(*count);
    if (*links > kMostNvLinkCount) {
      return Bad(link.line, absl::StrCat("<", link.name, "> to ", Quoted(*target), ": ", *links,
                                         " links in all, at most ", kMostNvLinkCount));
    }
    return absl::OkStatus();
  }

  absl::Status ReadNic(const XmlElement& nic) {
    for (const auto& net : nic.children) {
      if (net->name != "net") continue;
      const absl::StatusOr<int64_t> speed = Number(*net, "speed", -1, kMostNetMbits, 0);
      if (!speed.ok()) return speed.status();
      network_mbits_ += *speed > 0 ? *speed : kUnknownNetMbits;
    }
    return absl::OkStatus();
  }

  // By `dev`, which is how CUDA counts them, if all have one.
  absl::Status Order() {
    std::set<int64_t> devs;
    for (const FoundGpu& gpu : gpus_) {
      if (gpu.dev < 0) return absl::OkStatus();
      if (!devs.insert(gpu.dev).second) return Bad(gpu.line, absl::StrCat("<gpu> dev=", gpu.dev, " twice"));
    }
    std::sort(gpus_.begin(), gpus_.end(), [](const FoundGpu& a, const FoundGpu& b) { return a.dev < b.dev; });
    return absl::OkStatus();
  }

  absl::StatusOr<const Chip*> ChipOf(const FoundGpu& gpu, const Chip* named) const {
    const bool has_links = gpu.switch_links > 0 || (!gpu.links.empty() && gpu.link_mbps == 0);
    const Chip* chip = named;
    if (chip == nullptr && !gpu.amd && gpu.sm > 0) chip = FindChipBySm(static_cast<int>(gpu.sm));
    if (chip == nullptr) {
      if (has_links) {
        return Bad(gpu.line, absl::StrCat("GPU ", gpu.bus_id,
                                          " has NVLink, but the file does not say of which chip; give "
                                          "it with --gpu (",
                                          KnownChips(), ")"));
      }
      return &GenericChip();
    }
    if (has_links && chip->nvlinks == 0) {
      return Bad(gpu.line, absl::StrCat("GPU ", gpu.bus_id, " has NVLink, ", chip->name,
                                        " has none; name the right chip with --gpu"));
    }
    if (gpu.switch_links > chip->nvlinks && has_links) {
      return Bad(gpu.line, absl::StrCat("GPU ", gpu.bus_id, " has ", gpu.switch_links, " NVLinks to switches, ",
                                        chip->name, " has ", chip->nvlinks, "; name the right chip with --gpu"));
    }
    return chip;
  }

  // How two devices reach each other over PCIe, and how fast: 0 where the file does not say.
  Link PciPath(const FoundGpu& a, const FoundGpu& b) const {
    Link link;
    link.source = Source::kFile;
    size_t from = 1, to = 1;  // the lowest step that both have; a device's own is nobody else's
    const auto meet = [&] {
      for (from = 1; from < a.steps.size(); ++from) {
        for (to = 1; to < b.steps.size(); ++to) {
          if (a.steps[from].pci == b.steps[to].pci) return true;
        }
      }
      return false;
    };
    if (meet()) {
      link.kind = from == 1 && to == 1 ? PathKind::kPix : PathKind::kPxb;
    } else {
      link.kind = a.cpu == b.cpu ? PathKind::kPhb : PathKind::kSys;
      from = a.steps.size();
      to = b.steps.size();
    }
    const auto narrowest = [&](const FoundGpu& gpu, size_t end) {
      for (size_t i = 0; i < end; ++i) {
        const int64_t mbps = gpu.steps[i].mbps;
        if (mbps > 0 && (link.mbps == 0 || mbps < link.mbps)) link.mbps = mbps;
      }
    };
    narrowest(a, from);
    narrowest(b, to);
    return link;
  }

  absl::StatusOr<Host> ToHost(const Chip* named) const {
    Host host;
    host.network_mbps = network_mbits_ / 8;
    const int n = static_cast<int>(gpus_.size());
    int64_t socket_mbps = 0;
    for (const FoundGpu& gpu : gpus_) {
      const absl::StatusOr<const Chip*> chip = ChipOf(gpu, named);
      if (!chip.ok()) return chip.status();
      Device device;
      device.chip = *chip;
      device.memory_total = (*chip)->memory_bytes;
      device.pci_bus_id = gpu.bus_id;
      device.numa = cpus_[gpu.cpu].numa;
      host.devices.push_back(std::move(device));
      const int64_t cpu_mbps = cpus_[gpu.cpu].socket_mbps;
      const int64_t mbps = cpu_mbps > 0 ? cpu_mbps : (*chip)->socket_mbps;
      socket_mbps = socket_mbps == 0 ? mbps : std::min(socket_mbps, mbps);
    }
    host.links.resize(static_cast<size_t>(n) * n);
    for (int a = 0; a < n; ++a) {
      for (int b = 0; b < n; ++b) {
        if (a == b) {
          host.link(a, b).kind = PathKind::kSelf;
          continue;
        }
        const FoundGpu& from = gpus_[a];
        const FoundGpu& to = gpus_[b];
        const auto there = from.links.find(to.bus_id);
        const auto back = to.links.find(from.bus_id);
        const int count = there == from.links.end() ? 0 : there->second;
        const int other = back == to.links.end() ? 0 : back->second;
        if (count != other) {
          return Bad(from.line, absl::StrCat("GPU ", from.bus_id, " has ", count, " links to ", to.bus_id,
                                             ", which has ", other, " back (line ", to.line, "); mend one of them"));
        }
        Link& link = host.link(a, b);
        if (count > 0) {
          link = {PathKind::kNvLink, count, count * std::min(from.link_mbps, to.link_mbps), Source::kFile};
        } else if (from.switch_links > 0 && to.switch_links > 0) {
          link = {PathKind::kNvSwitch, std::min(from.switch_links, to.switch_links), 0, Source::kFile};
        } else {
          link = PciPath(from, to);
          const int64_t pcie = std::min(host.devices[a].chip->pcie_mbps, host.devices[b].chip->pcie_mbps);
          if (link.mbps == 0) link.mbps = pcie;
          if (link.kind == PathKind::kSys) link.mbps = std::min(link.mbps, socket_mbps);
        }
      }
    }
    return host;
  }

  const std::string file_;
  const ReadOptions& options_;
  std::vector<Cpu> cpus_;
  std::set<int64_t> numas_;
  std::string host_hash_;
  std::map<std::string, int> bus_ids_;  // and their lines
  std::vector<FoundGpu> gpus_, by_class_;
  int64_t network_mbits_ = 0;
};

}  // namespace

absl::StatusOr<Host> ParseNcclXml(absl::string_view text, absl::string_view file, const ReadOptions& options) {
  return Reader(file, options).Read(text);
}

}  // namespace tandem::placement
