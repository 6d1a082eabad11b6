#include "config/device_health.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/yaml/second_document.h"
#include "config/shipped_device_health.h"
#include "config/units.h"

namespace tandem::config {
namespace {

constexpr size_t kMostBytes = 1 << 20;
constexpr size_t kMostRows = 1024;
constexpr size_t kMostText = 200;
constexpr int kMostTimes = 100;

class Reader {
 public:
  explicit Reader(const std::string& name) : name_(name) {}

  absl::StatusOr<std::vector<HealthRow>> Read(const YAML::Node& root) {
    const YAML::Node rules = root.IsMap() ? root["rules"] : YAML::Node();
    if (!root.IsMap() || root.size() != 1 || !rules || !rules.IsSequence()) {
      return Bad(root, "expected one section, rules, with a list of rows");
    }
    if (rules.size() > kMostRows) return Bad(rules, absl::StrCat(rules.size(), " rows; at most ", kMostRows));
    for (const YAML::Node& row : rules) {
      if (absl::Status status = ReadRow(row); !status.ok()) return status;
    }
    return std::move(rows_);
  }

 private:
  absl::Status Bad(const YAML::Node& node, absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(name_, ":", node.Mark().line + 1, ": ", what));
  }

  absl::Status ReadRow(const YAML::Node& node) {
    if (!node.IsMap()) return Bad(node, "a row is {on: .., do: ..}");
    HealthRow row;
    std::set<std::string> seen;
    for (const auto& pair : node) {
      if (!pair.first.IsScalar() || !pair.second.IsScalar()) return Bad(pair.first, "a row has words and values only");
      const std::string key = pair.first.Scalar(), text = pair.second.Scalar();
      if (!seen.insert(key).second) return Bad(pair.first, absl::StrCat(key, ": given twice"));
      if (text.empty() || text.size() > kMostText) return Bad(pair.second, absl::StrCat(key, ": 1 to 200 bytes"));
      if (absl::Status status = ReadValue(pair.second, key, text, row); !status.ok()) return status;
    }
    if (row.on.empty() || row.action.empty()) return Bad(node, "a row needs on and do");
    rows_.push_back(std::move(row));
    return absl::OkStatus();
  }

  absl::Status ReadValue(const YAML::Node& node, const std::string& key, const std::string& text, HealthRow& row) {
    if (key == "on") {
      row.on = text;
    } else if (key == "because") {
      row.because = text;
    } else if (key == "do") {
      if (std::find(std::begin(kHealthActions), std::end(kHealthActions), text) == std::end(kHealthActions)) {
        return Bad(node, absl::StrCat("do: \"", text, "\" is none of ", absl::StrJoin(kHealthActions, ", ")));
      }
      row.action = text;
    } else if (key == "cool_off") {
      const absl::StatusOr<absl::Duration> time = ParseDuration(text);
      if (!time.ok()) return Bad(node, absl::StrCat("cool_off: ", time.status().message()));
      if (*time < absl::Seconds(1) || *time > absl::Hours(24 * 365)) return Bad(node, "cool_off: 1s to 8760h");
      row.cool_off = *time;
    } else if (key == "times") {
      const absl::StatusOr<int64_t> times = ParseInteger(text, 1, kMostTimes);
      if (!times.ok()) return Bad(node, absl::StrCat("times: ", times.status().message()));
      row.times = static_cast<int>(*times);
    } else {
      return Bad(node, absl::StrCat("\"", key, "\" is none of on, do, cool_off, times, because"));
    }
    return absl::OkStatus();
  }

  const std::string& name_;
  std::vector<HealthRow> rows_;
};

}  // namespace

absl::StatusOr<std::vector<HealthRow>> ReadDeviceHealth(const std::string& yaml, const std::string& name) {
  if (yaml.size() > kMostBytes) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": ", yaml.size(), " bytes; a table has at most 1MiB"));
  }
  // yaml-cpp reports by exceptions; none leaves this function.
  try {
    if (yaml::HasSecondDocument(yaml)) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": more than one document"));
    }
    return Reader(name).Read(YAML::Load(yaml));
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(name, ":", error.mark.line + 1, ": not YAML: ", error.msg));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": not YAML: ", error.what()));
  }
}

absl::StatusOr<std::vector<HealthRow>> LoadDeviceHealth(const std::string& path) {
  absl::StatusOr<std::vector<HealthRow>> shipped =
      ReadDeviceHealth(kShippedDeviceHealth, "config/tables/device_health.yaml");
  if (!shipped.ok() || path.empty()) return shipped;
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::InvalidArgumentError(absl::StrCat("scheduling.device_health: cannot read ", path));
  std::ostringstream text;
  text << file.rdbuf();
  absl::StatusOr<std::vector<HealthRow>> rows = ReadDeviceHealth(text.str(), path);
  if (!rows.ok()) return rows;
  rows->insert(rows->end(), shipped->begin(), shipped->end());
  return rows;
}

}  // namespace tandem::config
