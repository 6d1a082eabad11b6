#include "client/ctl/names.h"

#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tandem::client::ctl {
namespace {

struct Word {
  const char* one;
  const char* many;
  Kind kind;
};
constexpr Word kWords[] = {
    {"device", "devices", Kind::kDevice}, {"gpu", "gpus", Kind::kDevice},          {"node", "nodes", Kind::kNode},
    {"group", "groups", Kind::kGroup},    {"request", "requests", Kind::kRequest}, {"model", "models", Kind::kModel},
};

const char* Collection(Kind kind) {
  switch (kind) {
    case Kind::kDevice:
      return "devices";
    case Kind::kNode:
      return "nodes";
    case Kind::kGroup:
      return "groups";
    case Kind::kModel:
      return "models";
    case Kind::kRequest:
      return "requests";
  }
  return "";
}

}  // namespace

absl::StatusOr<Kind> ParseKind(absl::string_view word) {
  for (const Word& known : kWords) {
    if (word == known.one || word == known.many) return known.kind;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", word, "\" is no kind of resource; devices (gpus), groups, models, nodes or requests"));
}

absl::StatusOr<ResourceName> ParseName(absl::string_view text, Kind otherwise) {
  const size_t slash = text.find('/');
  Kind kind = otherwise;
  absl::string_view rest = text;
  if (slash != absl::string_view::npos) {
    const auto prefix = ParseKind(text.substr(0, slash));
    if (prefix.ok() && *prefix == Kind::kNode && absl::StrContains(text, "/devices/")) {
      return ResourceName{Kind::kDevice, std::string(text)};
    }
    // box/0 is a device of the node "box", and org/name a model: no kind in front.
    if (prefix.ok()) {
      kind = *prefix;
      rest = text.substr(slash + 1);
    }
  }
  if (rest.empty()) return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" names nothing"));
  if (kind == Kind::kDevice) return ResourceName{kind, std::string(rest)};
  return ResourceName{kind, absl::StrCat(Collection(kind), "/", rest)};
}

}  // namespace tandem::client::ctl
