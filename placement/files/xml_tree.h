// A small XML document as a tree, with line numbers and with what could hurt left out: no document type, no entities,
// a depth that recursion can bear. Text between tags is dropped; the formats that we read have none.
#ifndef TANDEM_PLACEMENT_FILES_XML_TREE_H_
#define TANDEM_PLACEMENT_FILES_XML_TREE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::placement {

struct XmlElement {
  std::string name;
  int line = 0;  // from 1
  std::vector<std::pair<std::string, std::string>> attributes;
  std::vector<std::unique_ptr<XmlElement>> children;

  // Null where it is not there.
  const std::string* Attribute(absl::string_view key) const {
    for (const auto& [name, value] : attributes) {
      if (name == key) return &value;
    }
    return nullptr;
  }
};

// `file` stands in messages: "FILE:LINE: what is wrong". Never null when OK.
absl::StatusOr<std::unique_ptr<XmlElement>> ParseXml(absl::string_view text, absl::string_view file, size_t most_bytes,
                                                     int most_depth);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_FILES_XML_TREE_H_
