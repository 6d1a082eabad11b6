#include "worker/model_loader.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/model/model_folder.h"

namespace tandem::worker {
namespace {

// What the process itself may have taken or given back between two looks.
constexpr int64_t kSlack = 16 << 20;

}  // namespace

absl::StatusOr<std::string> ModelLoader::FindFolder(const LoadSpec& spec) const {
  absl::StatusOr<std::string> folder =
      model::ResolveModelFolder(spec.path, {.model_root = model_root_, .hub_cache = model::DefaultHubCache()});
  if (!folder.ok()) return absl::InvalidArgumentError(folder.status().message());
  if (spec.manifest.empty()) return folder;
  absl::StatusOr<model::Manifest> found = model::ReadManifest(*folder);
  if (!found.ok()) return absl::InvalidArgumentError(found.status().message());
  std::vector<model::ManifestEntry> expected;
  for (const FileEntry& file : spec.manifest) {
    expected.push_back({.name = file.name, .bytes = file.bytes, .sha256 = file.sha256});
  }
  if (absl::Status same = model::CompareManifests(expected, found->files); !same.ok()) return same;
  return folder;
}

absl::StatusOr<std::unique_ptr<Executor>> ModelLoader::Load(const LoadSpec& spec, Communicator* communicator) const {
  absl::StatusOr<std::string> folder = FindFolder(spec);
  if (!folder.ok()) return folder.status();

  const int64_t kv_min = static_cast<int64_t>(std::min<uint64_t>(spec.kv_min_bytes, INT64_MAX));
  const int64_t free = device_->FreeBytes();
  const std::string named = device_->Name();
  if (free <= kv_min) {
    std::string message =
        absl::StrCat(spec.model, ": ", kv_min, " bytes of KV are needed at least, ", free, " are free on ", named);
    return kv_min > device_->Budget() ? absl::OutOfRangeError(message) : absl::ResourceExhaustedError(message);
  }
  absl::StatusOr<std::unique_ptr<Executor>> executor = load_(*folder, spec, free - kv_min, communicator);
  if (executor.ok()) return executor;
  const absl::Status& status = executor.status();
  std::string message = absl::StrCat(spec.model, ": ", status.message());
  if (absl::IsResourceExhausted(status)) {
    absl::StrAppend(&message, " on ", named, " (", free, " free, ", kv_min, " kept for KV, ", device_->Budget(), " of ",
                    device_->memory_total(), " may be used)");
    // Where the device's own budget was the limit, waiting for others to go does not help.
    const bool own_limit = free + kSlack >= device_->Budget() - device_->HeldBytes();
    return own_limit ? absl::OutOfRangeError(message) : absl::ResourceExhaustedError(message);
  }
  if (absl::IsUnavailable(status) || absl::IsAborted(status)) return status;  // The communicator's.
  return absl::InvalidArgumentError(message);
}

}  // namespace tandem::worker
