// Fuzz entry for the parsers of topology files. The first byte chooses the parser and the chip; errors are fine,
// crashes are not, and what is read must hold together.
// With clang: -fsanitize=fuzzer,address and this file. Without: topology_files_fuzz_test.cc feeds it.

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "placement/files/cluster_file.h"
#include "placement/files/nccl_xml.h"
#include "placement/files/smi_matrix.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tandem::placement;
  if (size == 0) return 0;
  const absl::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const ReadOptions options{data[0] & 4 ? "A100" : ""};
  const auto check = [](const Host& host) {
    if (!Validate(host).ok()) __builtin_trap();
  };
  const auto refused_in_one_line = [](const absl::Status& status) {
    if (status.message().empty() || absl::string_view(status.message()).find('\n') != absl::string_view::npos) {
      __builtin_trap();
    }
  };
  if (data[0] % 4 == 2) {
    const auto hosts = ParseClusterFile(text, "fuzz", options, [](const std::string&, const ReadOptions&) {
      return absl::StatusOr<Host>(absl::NotFoundError("no other files here"));
    });
    if (!hosts.ok()) {
      refused_in_one_line(hosts.status());
      return 0;
    }
    for (const Host& host : *hosts) check(host);
    return 0;
  }
  const auto host = data[0] % 4 == 1 ? ParseNcclXml(text, "fuzz", options) : ParseSmiMatrix(text, "fuzz", options);
  host.ok() ? check(*host) : refused_in_one_line(host.status());
  return 0;
}
