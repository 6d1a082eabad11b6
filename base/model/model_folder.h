// Finds a model's folder on this machine, and says in few bytes what is in it.
//
// A model is named in the configuration by a folder or by a hub id; each machine resolves the name for itself. The
// manifest is what makes sure that all ranks resolved it to the same files: small files by size and SHA-256, weight
// files by size and the SHA-256 of their header, which names every tensor. Reading it costs milliseconds, not
// gigabytes.
#ifndef TANDEM_BASE_MODEL_MODEL_FOLDER_H_
#define TANDEM_BASE_MODEL_MODEL_FOLDER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tandem::model {

struct FolderSearch {
  // Folders are looked for here, and never outside it. Empty: relative to the working directory, and any absolute path.
  std::string model_root;
  // The hub cache, as the hub's own tools fill it. Empty: hub ids are not looked for.
  std::string hub_cache;
};

// Where the hub's tools keep their cache: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub.
std::string DefaultHubCache();

// The folder that `path` names: an absolute path, one relative to the root, or a hub id ("owner/name") whose main
// revision is in the cache. Nothing is downloaded; NOT_FOUND prints the command that would.
absl::StatusOr<std::string> ResolveModelFolder(const std::string& path, const FolderSearch& search);

struct ManifestEntry {
  std::string name;
  uint64_t bytes = 0;
  std::string sha256;  // 32 raw bytes; of the header only for weight files

  bool operator==(const ManifestEntry&) const = default;
};

struct Manifest {
  std::vector<ManifestEntry> files;  // by name
  std::string revision;              // 32 hex digits, a hash over the entries
};

// Reads the manifest of a resolved folder. Files that no program here reads (a licence, a picture) are not in it.
absl::StatusOr<Manifest> ReadManifest(const std::string& folder);

// The revision of a list of entries in any order.
std::string RevisionOf(absl::Span<const ManifestEntry> files);

// OK, or FAILED_PRECONDITION beginning with "MODEL_MISMATCH: " and the name of the first file that differs.
absl::Status CompareManifests(absl::Span<const ManifestEntry> expected, absl::Span<const ManifestEntry> found);

}  // namespace tandem::model

#endif  // TANDEM_BASE_MODEL_MODEL_FOLDER_H_
