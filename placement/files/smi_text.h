// The words of an `nvidia-smi topo -m` table: labels, names of columns, and what follows the cells of a row.
//
// Pasted tables lose tabs, blanks and line ends. What can be read in one way only is read; what cannot is refused.
#ifndef TANDEM_PLACEMENT_FILES_SMI_TEXT_H_
#define TANDEM_PLACEMENT_FILES_SMI_TEXT_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "placement/topology/topology.h"

namespace tandem::placement {

// A word and where it starts in its line.
struct SmiWord {
  std::string text;
  size_t column = 0;
};
std::vector<SmiWord> SmiWords(absl::string_view line);

// "X", "NV4", "PIX", ... ; SOC is what old drivers called SYS. Any count is a label here: the matrix judges it.
std::optional<Link> ParseSmiLabel(absl::string_view word);

// The labels that `word` starts with: "NODENODE" is two, "SYS0-23" one and a rest. Only splits that can be read in one
// way: a rest after NV4 could be digits of it, so there is none.
struct SmiLabels {
  std::vector<Link> labels;
  std::string rest;
};
SmiLabels SplitSmiLabels(absl::string_view word);

// 12 of "GPU12"; nothing else is a GPU.
std::optional<int> ParseGpuName(absl::string_view word);
// "GPU0GPU1" as two names; empty where it is not made of GPU names alone.
std::vector<std::string> SplitGpuNames(absl::string_view word);
// "NIC0", "mlx5_bond_0", "ib0": starts with a letter, ends with a digit, is no label and no GPU.
bool IsNicName(absl::string_view word);

// "0-31,64-95", "7", "N/A".
bool IsCpuList(absl::string_view text);
// The first of "0", "0-3", "0,5-11"; -1 for "" and "N/A". None if it is neither.
std::optional<int> ParseNuma(absl::string_view text);

// Without the escape sequences that nvidia-smi underlines its header with.
std::string WithoutEscapes(absl::string_view line);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_FILES_SMI_TEXT_H_
