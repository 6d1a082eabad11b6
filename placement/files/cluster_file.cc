#include "placement/files/cluster_file.h"

#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/yaml/second_document.h"
#include "placement/files/smi_text.h"

namespace tandem::placement {
namespace {

constexpr const char* kHostKeys[] = {"name",     "count", "gpu",          "devices", "memory",  "numa",
                                     "nvswitch", "links", "default_link", "network", "topology"};
// Keys that describe what a `topology` file already says.
constexpr const char* kShapeKeys[] = {"devices", "numa", "nvswitch", "links", "default_link"};
constexpr size_t kMostNameBytes = 200;

struct Unit {
  const char* name;
  int64_t scale;
};
constexpr Unit kMemoryUnits[] = {{"GiB", int64_t{1} << 30},
                                 {"MiB", int64_t{1} << 20},
                                 {"TiB", int64_t{1} << 40},
                                 {"KiB", int64_t{1} << 10},
                                 {"GB", 1'000'000'000},
                                 {"MB", 1'000'000},
                                 {"B", 1},
                                 {"", 1}};
// In kbit/s, so that a megabit is a whole number.
constexpr Unit kNetworkUnits[] = {{"Gbit/s", 1'000'000}, {"Mbit/s", 1'000}, {"GB/s", 8'000'000}, {"MB/s", 8'000}};

// A whole number and a unit: "80GiB", "400 Gbit/s".
template <size_t N>
std::optional<int64_t> Quantity(absl::string_view text, const Unit (&units)[N]) {
  size_t digits = 0;
  while (digits < text.size() && absl::ascii_isdigit(text[digits])) ++digits;
  int64_t number = 0, product = 0;
  if (!absl::SimpleAtoi(text.substr(0, digits), &number)) return std::nullopt;
  const absl::string_view name = absl::StripLeadingAsciiWhitespace(text.substr(digits));
  for (const Unit& unit : units) {
    if (name == unit.name && !__builtin_mul_overflow(number, unit.scale, &product)) return product;
  }
  return std::nullopt;
}

bool IsName(absl::string_view name) {
  return !name.empty() && name.size() <= kMostNameBytes && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.';
  });
}

class Reader {
 public:
  Reader(absl::string_view file, const ReadOptions& options, const ReadOtherFile& read_other)
      : file_(file), options_(options), read_other_(read_other) {}

  absl::StatusOr<std::vector<Host>> Read(const YAML::Node& root) {
    if (!root.IsMap()) return Bad(Line(root), "expected a section with the key hosts");
    YAML::Node hosts;
    for (const auto& pair : root) {
      const std::string key = pair.first.IsScalar() ? pair.first.Scalar() : "";
      if (key != "hosts")
        return Bad(Line(pair.first), absl::StrCat("unknown key ", Quoted(key), "; known here: hosts"));
      if (hosts.IsSequence()) return Bad(Line(pair.first), "hosts: given twice");
      if (!pair.second.IsSequence()) return Bad(Line(pair.first), "hosts: expected a list of hosts");
      hosts.reset(pair.second);
    }
    if (!hosts.IsSequence() || hosts.size() == 0) return Bad(Line(root), "hosts: no host in it");
    for (const YAML::Node& host : hosts) {
      if (absl::Status status = ReadHost(host); !status.ok()) return status;
    }
    return std::move(hosts_);
  }

 private:
  using Values = std::map<std::string, YAML::Node>;

  static int Line(const YAML::Node& node) { return std::max(node.Mark().line, 0) + 1; }

  absl::Status Bad(int line, absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(file_, ":", line, ": ", what));
  }

  static std::string Text(const YAML::Node& node) { return node.IsScalar() ? node.Scalar() : ""; }

  absl::StatusOr<int64_t> Number(const YAML::Node& node, absl::string_view key, int64_t least, int64_t most) const {
    int64_t value = 0;
    if (!absl::SimpleAtoi(Text(node), &value) || value < least || value > most) {
      return Bad(Line(node),
                 absl::StrCat(key, ": ", Quoted(Text(node)), "; expected a number from ", least, " to ", most));
    }
    return value;
  }

  absl::StatusOr<Values> Keys(const YAML::Node& node) const {
    if (!node.IsMap()) return Bad(Line(node), "expected a section of keys for a host");
    Values values;
    for (const auto& pair : node) {
      const std::string key = Text(pair.first);
      if (std::find(std::begin(kHostKeys), std::end(kHostKeys), key) == std::end(kHostKeys)) {
        return Bad(Line(pair.first),
                   absl::StrCat("unknown key ", Quoted(key), "; known of a host: ", absl::StrJoin(kHostKeys, ", ")));
      }
      if (!values.emplace(key, pair.second).second) return Bad(Line(pair.first), absl::StrCat(key, ": given twice"));
    }
    return values;
  }

  absl::Status ReadHost(const YAML::Node& node) {
    const absl::StatusOr<Values> keys = Keys(node);
    if (!keys.ok()) return keys.status();
    const Values& values = *keys;
    if (values.count("name") == 0) return Bad(Line(node), "name: a host needs one");
    const std::string name = Text(values.at("name"));
    if (!IsName(name)) {
      return Bad(Line(values.at("name")),
                 absl::StrCat("name: ", Quoted(name), "; expected letters, digits, \"-\", \"_\" or \".\""));
    }
    int64_t count = 1;
    if (const auto at = values.find("count"); at != values.end()) {
      const auto number = Number(at->second, "count", 1, kMostClusterDevices);
      if (!number.ok()) return number.status();
      count = *number;
    }
    ReadOptions options{options_.gpu, name};
    if (const auto at = values.find("gpu"); at != values.end()) {
      options.gpu = Text(at->second);
      if (options.gpu.empty()) return Bad(Line(at->second), "gpu: expected the name of a chip");
    }
    const absl::StatusOr<const Chip*> chip = NamedChip(options.gpu);
    if (!chip.ok()) return Bad(Line(node), chip.status().message());

    absl::StatusOr<Host> host =
        values.count("topology") > 0 ? FromFile(values, options) : FromKeys(node, values, *chip);
    if (!host.ok()) return host.status();
    if (absl::Status status = SetMemory(values, *host); !status.ok()) return status;
    if (absl::Status status = SetNetwork(values, *host); !status.ok()) return status;
    if (values.count("topology") == 0) {
      host = Finish(*std::move(host), options, absl::StrCat(file_, ":", Line(node)));
      if (!host.ok()) return host.status();
    }
    return Add(*host, name, count, values.count("count") > 0, Line(node));
  }

  absl::StatusOr<Host> FromFile(const Values& values, const ReadOptions& options) const {
    for (const char* key : kShapeKeys) {
      const auto at = values.find(key);
      if (at != values.end()) return Bad(Line(at->second), absl::StrCat(key, ": the topology file says that already"));
    }
    const YAML::Node& topology = values.at("topology");
    const std::string path = Text(topology);
    if (path.empty()) return Bad(Line(topology), "topology: expected the path of a matrix or an XML");
    absl::StatusOr<Host> host = read_other_(path, options);
    if (!host.ok()) return Bad(Line(topology), absl::StrCat("topology: ", host.status().message()));
    return host;
  }

  absl::StatusOr<Host> FromKeys(const YAML::Node& node, const Values& values, const Chip* chip) const {
    if (values.count("devices") == 0) return Bad(Line(node), "devices: a host needs their number, or a topology file");
    const auto devices = Number(values.at("devices"), "devices", 1, kMostDevicesOfHost);
    if (!devices.ok()) return devices.status();
    const int n = static_cast<int>(*devices);
    Host host;
    Device device;
    device.chip = chip != nullptr ? chip : &GenericChip();
    device.memory_total = device.chip->memory_bytes;
    host.devices.assign(n, device);
    host.links.resize(static_cast<size_t>(n) * n);
    if (absl::Status status = SetNuma(values, host); !status.ok()) return status;

    Link link{PathKind::kPhb};
    if (const auto at = values.find("default_link"); at != values.end()) {
      const absl::StatusOr<Link> label = Label(at->second, "default_link", *device.chip);
      if (!label.ok()) return label.status();
      link = *label;
    }
    bool nvswitch = false;
    if (const auto at = values.find("nvswitch"); at != values.end()) {
      const std::string text = Text(at->second);
      if (text != "true" && text != "false") return Bad(Line(at->second), "nvswitch: expected true or false");
      nvswitch = text == "true";
      if (nvswitch && device.chip->nvlinks == 0) {
        return Bad(Line(at->second),
                   absl::StrCat("nvswitch: ", device.chip->name, " has no NVLink; name a chip with gpu"));
      }
      if (nvswitch && values.count("links") > 0) {
        return Bad(Line(at->second), "nvswitch: all pairs are on the switch then; leave links away");
      }
    }
    for (int a = 0; a < n; ++a) {
      for (int b = 0; b < n; ++b) {
        const bool one_node = host.devices[a].numa == host.devices[b].numa || link.kind == PathKind::kNvLink;
        Link& into = host.link(a, b);
        into = one_node ? link : Link{PathKind::kSys};
        if (nvswitch) into = Link{PathKind::kNvSwitch};
        if (a == b) into = Link{PathKind::kSelf};
        into.source = Source::kFile;
      }
    }
    if (const auto at = values.find("links"); at != values.end()) {
      if (absl::Status status = SetLinks(at->second, host); !status.ok()) return status;
    }
    return host;
  }

  absl::Status SetNuma(const Values& values, Host& host) const {
    const auto at = values.find("numa");
    if (at == values.end()) return absl::OkStatus();
    if (!at->second.IsSequence() || static_cast<int>(at->second.size()) != host.size()) {
      return Bad(Line(at->second), absl::StrCat("numa: expected a list of ", host.size(), " numbers, one per device"));
    }
    for (int i = 0; i < host.size(); ++i) {
      const auto numa = Number(at->second[i], "numa", 0, 4095);
      if (!numa.ok()) return numa.status();
      host.devices[i].numa = static_cast<int>(*numa);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Link> Label(const YAML::Node& node, absl::string_view key, const Chip& chip) const {
    const std::optional<Link> label = ParseSmiLabel(Text(node));
    if (!label.has_value() || label->kind == PathKind::kSelf) {
      return Bad(Line(node),
                 absl::StrCat(key, ": ", Quoted(Text(node)), "; expected NV<links>, PIX, PXB, PHB, NODE or SYS"));
    }
    if (label->kind == PathKind::kNvLink && (label->nvlinks < 1 || label->nvlinks > chip.nvlinks)) {
      return Bad(Line(node), absl::StrCat(key, ": ", Quoted(Text(node)), ", but ", chip.name, " has ", chip.nvlinks,
                                          " NVLinks; name the chip with gpu"));
    }
    return *label;
  }

  absl::Status SetLinks(const YAML::Node& links, Host& host) const {
    if (!links.IsSequence()) return Bad(Line(links), "links: expected a list of [device, device, label]");
    std::set<std::pair<int64_t, int64_t>> seen;
    for (const YAML::Node& item : links) {
      if (!item.IsSequence() || item.size() != 3) return Bad(Line(item), "links: expected [device, device, label]");
      const auto a = Number(item[0], "links", 0, host.size() - 1);
      if (!a.ok()) return a.status();
      const auto b = Number(item[1], "links", 0, host.size() - 1);
      if (!b.ok()) return b.status();
      if (*a == *b) return Bad(Line(item), absl::StrCat("links: from ", *a, " to itself"));
      if (!seen.insert(std::minmax(*a, *b)).second) {
        return Bad(Line(item), absl::StrCat("links: ", *a, " and ", *b, " twice"));
      }
      const auto label = Label(item[2], "links", *host.devices[*a].chip);
      if (!label.ok()) return label.status();
      host.link(*a, *b) = host.link(*b, *a) = *label;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<int64_t> Memory(const YAML::Node& node) const {
    const std::optional<int64_t> bytes = Quantity(Text(node), kMemoryUnits);
    if (!bytes.has_value() || *bytes == 0) {
      return Bad(Line(node), absl::StrCat("memory: ", Quoted(Text(node)), "; expected a size such as 80GiB"));
    }
    return *bytes;
  }

  absl::Status SetMemory(const Values& values, Host& host) const {
    const auto at = values.find("memory");
    if (at == values.end()) return absl::OkStatus();
    const bool list = at->second.IsSequence();
    if (list && static_cast<int>(at->second.size()) != host.size()) {
      return Bad(Line(at->second), absl::StrCat("memory: expected one size or a list of ", host.size()));
    }
    for (int i = 0; i < host.size(); ++i) {
      const absl::StatusOr<int64_t> bytes = Memory(list ? at->second[i] : at->second);
      if (!bytes.ok()) return bytes.status();
      host.devices[i].memory_total = *bytes;
    }
    return absl::OkStatus();
  }

  absl::Status SetNetwork(const Values& values, Host& host) const {
    const auto at = values.find("network");
    if (at == values.end()) return absl::OkStatus();
    const std::optional<int64_t> kbits = Quantity(Text(at->second), kNetworkUnits);
    if (!kbits.has_value() || *kbits < 8'000) {
      return Bad(Line(at->second),
                 absl::StrCat("network: ", Quoted(Text(at->second)), "; expected a rate such as 400Gbit/s"));
    }
    host.network_mbps = *kbits / 8'000;
    return absl::OkStatus();
  }

  absl::Status Add(const Host& host, const std::string& name, int64_t count, bool numbered, int line) {
    devices_ += count * host.size();
    if (devices_ > kMostClusterDevices) {
      return Bad(line, absl::StrCat(devices_, " devices up to here; at most ", kMostClusterDevices));
    }
    for (int64_t i = 0; i < count; ++i) {
      Host copy = host;
      NameHost(copy, numbered ? absl::StrCat(name, "-", i) : name);
      if (!names_.insert(copy.name).second) return Bad(line, absl::StrCat("two hosts are called ", copy.name));
      hosts_.push_back(std::move(copy));
    }
    return absl::OkStatus();
  }

  const std::string file_;
  const ReadOptions& options_;
  const ReadOtherFile& read_other_;
  std::vector<Host> hosts_;
  std::set<std::string> names_;
  int64_t devices_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<Host>> ParseClusterFile(absl::string_view text, absl::string_view file,
                                                   const ReadOptions& options, const ReadOtherFile& read_other) {
  const std::string name(file);
  if (text.size() > kMostClusterBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": ", text.size(), " bytes; a cluster file has at most 4 MiB"));
  }
  // yaml-cpp reports by exceptions; none leaves this function. Its messages may quote the file, line ends and all.
  try {
    if (yaml::HasSecondDocument(std::string(text))) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ":1: more than one document; expected one, and nothing after"));
    }
    return Reader(file, options, read_other).Read(YAML::Load(std::string(text)));
  } catch (const YAML::DeepRecursion& error) {
    return absl::InvalidArgumentError(absl::StrCat(name, ":", std::max(error.mark.line, 0) + 1,
                                                   ": nested too deeply; hosts have at most a list of lists"));
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ":", std::max(error.mark.line, 0) + 1, ": not YAML: ", absl::CHexEscape(error.msg)));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": not YAML: ", absl::CHexEscape(error.what())));
  }
}

}  // namespace tandem::placement
