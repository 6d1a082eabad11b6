#include "placement/files/read_topology.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "placement/files/cluster_file.h"
#include "placement/files/nccl_xml.h"
#include "placement/files/smi_matrix.h"

namespace tandem::placement {
namespace {

// The largest that any kind may have; each parser has its own limit.
constexpr size_t kMostBytes = std::max({kMostSmiBytes, kMostXmlBytes, kMostClusterBytes});

absl::StatusOr<std::string> ReadWhole(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    return absl::NotFoundError(
        absl::StrCat(path, ": no such file; a topology is a matrix, an NCCL XML or a cluster file"));
  }
  std::ifstream in(path, std::ios::binary);
  std::string text(kMostBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad() || !in.is_open()) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMostBytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": more than ", kMostBytes, " bytes; that is no topology"));
  }
  return text;
}

absl::StatusOr<Host> ParseOne(absl::string_view text, const std::string& path, const ReadOptions& options) {
  switch (KindOf(text)) {
    case TopologyFileKind::kNcclXml:
      return ParseNcclXml(text, path, options);
    case TopologyFileKind::kSmiMatrix:
      return ParseSmiMatrix(text, path, options);
    case TopologyFileKind::kCluster:
      break;
  }
  return absl::InvalidArgumentError(absl::StrCat(path, ": a cluster file inside of another; list its hosts there"));
}

}  // namespace

TopologyFileKind KindOf(absl::string_view text) {
  absl::ConsumePrefix(&text, "\xef\xbb\xbf");
  if (absl::StartsWith(absl::StripLeadingAsciiWhitespace(text), "<")) return TopologyFileKind::kNcclXml;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, "hosts:")) return TopologyFileKind::kCluster;
  }
  return TopologyFileKind::kSmiMatrix;
}

absl::StatusOr<std::vector<Host>> ParseTopology(absl::string_view text, const std::string& path,
                                                const ReadOptions& options) {
  if (KindOf(text) == TopologyFileKind::kCluster) {
    const std::filesystem::path folder = std::filesystem::path(path).parent_path();
    const auto read_other = [&](const std::string& other, const ReadOptions& its) -> absl::StatusOr<Host> {
      const std::string full = (folder / other).string();
      const absl::StatusOr<std::string> contents = ReadWhole(full);
      if (!contents.ok()) return contents.status();
      return ParseOne(*contents, full, its);
    };
    return ParseClusterFile(text, path, options, read_other);
  }
  absl::StatusOr<Host> host = ParseOne(text, path, options);
  if (!host.ok()) return host.status();
  std::vector<Host> hosts;
  hosts.push_back(*std::move(host));
  return hosts;
}

absl::StatusOr<std::vector<Host>> ReadTopologyFile(const std::string& path, const ReadOptions& options) {
  const absl::StatusOr<std::string> text = ReadWhole(path);
  if (!text.ok()) return text.status();
  return ParseTopology(*text, path, options);
}

void NumberHosts(std::vector<Host>& hosts, int first) {
  for (Host& host : hosts) NameHost(host, absl::StrCat("host", first++));
}

}  // namespace tandem::placement
