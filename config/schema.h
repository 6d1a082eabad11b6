// The keys of a cluster's configuration: one table row each, with the one function that reads the value's text and the
// one that writes it. File, environment and flags all pass through these rows, so a value means the same everywhere.
#ifndef TANDEM_CONFIG_SCHEMA_H_
#define TANDEM_CONFIG_SCHEMA_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "config/cluster_config.h"

namespace tandem::config {

enum class Shape {
  kScalar,
  kPath,   // a scalar; relative ones are made absolute by the layer that they come from
  kList,   // of scalars; its text is joined by commas
  kRange,  // a number, or {min: A, max: B}; its text is "A..B"
};

template <typename Target>
struct Key {
  const char* name;  // "server.clients"; of a model only "path"
  Shape shape;
  absl::Status (*read)(absl::string_view text, Target& into);
  std::string (*write)(const Target& from);
};
using ClusterKey = Key<ClusterConfig>;
using ModelKey = Key<ModelConfig>;

absl::Span<const ClusterKey> ClusterKeys();
absl::Span<const ModelKey> ModelKeys();

// Null if there is none of that name.
const ClusterKey* FindClusterKey(absl::string_view name);
const ModelKey* FindModelKey(absl::string_view name);

// " (did you mean \"select\"?)", or nothing where none of `known` is close.
std::string DidYouMean(absl::string_view word, const std::vector<std::string>& known);

}  // namespace tandem::config

#endif  // TANDEM_CONFIG_SCHEMA_H_
