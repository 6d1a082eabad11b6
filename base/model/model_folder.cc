#include "base/model/model_folder.h"

#include <openssl/sha.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/model/json_fields.h"
#include "base/model/safetensors.h"

namespace tandem::model {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxSmallFile = 256 << 20;

// Everything besides weights that decides what a model answers.
constexpr const char* kSmallFiles[] = {
    "1_Pooling/config.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors.index.json",
    "modules.json",
    "preprocessor_config.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
};

std::string Sha256(absl::string_view bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

bool IsModelFolder(const fs::path& folder) {
  std::error_code error;
  return fs::is_regular_file(folder / "config.json", error);
}

bool HasParentStep(const fs::path& path) {
  return std::any_of(path.begin(), path.end(), [](const fs::path& part) { return part == ".."; });
}

bool IsInside(const fs::path& path, const fs::path& root) {
  const fs::path relative = path.lexically_normal().lexically_relative(root.lexically_normal());
  return !relative.empty() && *relative.begin() != "..";
}

// "owner/name", in the letters that the hub allows.
bool LooksLikeHubId(absl::string_view path) {
  const size_t slash = path.find('/');
  if (slash == absl::string_view::npos || slash == 0 || slash + 1 == path.size()) return false;
  if (path.find('/', slash + 1) != absl::string_view::npos || path.front() == '.') return false;
  return std::all_of(path.begin(), path.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.' || c == '/';
  });
}

absl::StatusOr<std::string> FindInHubCache(const std::string& id, const std::string& cache) {
  std::string folder_name = absl::StrCat("models--", id);
  folder_name.replace(folder_name.find('/'), 1, "--");
  const fs::path repository = fs::path(cache) / folder_name;
  const absl::StatusOr<std::string> reference = ReadSmallFile((repository / "refs" / "main").string(), 256);
  if (!reference.ok()) return absl::NotFoundError("no main revision");
  const std::string commit(absl::StripAsciiWhitespace(*reference));
  if (commit.empty() || commit.find('/') != std::string::npos || commit[0] == '.') {
    return absl::NotFoundError("no main revision");
  }
  const fs::path snapshot = repository / "snapshots" / commit;
  if (!IsModelFolder(snapshot)) return absl::NotFoundError("the main revision has no config.json");
  return snapshot.string();
}

absl::StatusOr<ManifestEntry> WeightEntry(const fs::path& path, const std::string& name) {
  std::error_code error;
  const uint64_t bytes = fs::file_size(path, error);
  if (error) return absl::NotFoundError(absl::StrCat(path.string(), ": the weight file cannot be opened"));
  std::ifstream file(path, std::ios::binary);
  std::string header(8, '\0');
  if (!file.read(header.data(), 8)) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": ", bytes, " bytes are no safetensors file"));
  }
  const absl::StatusOr<int64_t> length = SafetensorsHeaderLength(header, static_cast<int64_t>(bytes), name);
  if (!length.ok()) return length.status();
  header.resize(static_cast<size_t>(8 + *length));
  if (!file.read(header.data() + 8, *length)) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": the header cannot be read"));
  }
  return ManifestEntry{name, bytes, Sha256(header)};
}

}  // namespace

std::string DefaultHubCache() {
  if (const char* cache = std::getenv("HF_HUB_CACHE"); cache != nullptr && *cache != '\0') return cache;
  if (const char* home = std::getenv("HF_HOME"); home != nullptr && *home != '\0') return absl::StrCat(home, "/hub");
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') {
    return absl::StrCat(home, "/.cache/huggingface/hub");
  }
  return "";
}

absl::StatusOr<std::string> ResolveModelFolder(const std::string& path, const FolderSearch& search) {
  if (path.empty() || path.size() > 4096 || path.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("the model's path is empty or too long");
  }
  if (HasParentStep(path))
    return absl::InvalidArgumentError(absl::StrCat("model path ", path, ": \"..\" is not taken"));
  const fs::path asked(path);
  if (asked.is_absolute()) {
    if (!search.model_root.empty() && !IsInside(asked, search.model_root)) {
      return absl::InvalidArgumentError(
          absl::StrCat("model path ", path, " is outside the model root ", search.model_root));
    }
    if (IsModelFolder(asked)) return asked.lexically_normal().string();
    return absl::NotFoundError(absl::StrCat("model path ", path, ": no folder with a config.json"));
  }
  const fs::path below_root = fs::path(search.model_root) / asked;
  if (IsModelFolder(below_root)) return below_root.lexically_normal().string();
  if (!LooksLikeHubId(path)) {
    return absl::NotFoundError(
        absl::StrCat("model path ", path, ": no folder with a config.json at ", below_root.string()));
  }
  if (!search.hub_cache.empty()) {
    absl::StatusOr<std::string> found = FindInHubCache(path, search.hub_cache);
    if (found.ok()) return found;
  }
  return absl::NotFoundError(absl::StrCat("model ", path, " is neither a folder at ", below_root.string(),
                                          " nor in the hub cache ", search.hub_cache,
                                          "; fetch it once with: hf download ", path));
}

absl::StatusOr<Manifest> ReadManifest(const std::string& folder) {
  if (!IsModelFolder(folder)) return absl::NotFoundError(absl::StrCat(folder, ": no folder with a config.json"));
  Manifest manifest;
  for (const char* name : kSmallFiles) {
    const fs::path path = fs::path(folder) / name;
    std::error_code error;
    if (!fs::exists(path, error)) continue;
    const absl::StatusOr<std::string> text = ReadSmallFile(path.string(), kMaxSmallFile);
    if (!text.ok()) return text.status();
    manifest.files.push_back({name, text->size(), Sha256(*text)});
  }
  const absl::StatusOr<std::vector<std::string>> weights = ListWeightFiles(folder);
  if (!weights.ok()) return weights.status();
  for (const std::string& name : *weights) {
    absl::StatusOr<ManifestEntry> entry = WeightEntry(fs::path(folder) / name, name);
    if (!entry.ok()) return entry.status();
    manifest.files.push_back(*std::move(entry));
  }
  std::sort(manifest.files.begin(), manifest.files.end(),
            [](const ManifestEntry& a, const ManifestEntry& b) { return a.name < b.name; });
  manifest.revision = RevisionOf(manifest.files);
  return manifest;
}

std::string RevisionOf(absl::Span<const ManifestEntry> files) {
  std::map<std::string, const ManifestEntry*> by_name;
  for (const ManifestEntry& entry : files) by_name.emplace(entry.name, &entry);
  std::string text;
  for (const auto& [name, entry] : by_name) {
    absl::StrAppend(&text, name, " ", entry->bytes, " ", absl::BytesToHexString(entry->sha256), "\n");
  }
  return absl::BytesToHexString(Sha256(text).substr(0, 16));
}

absl::Status CompareManifests(absl::Span<const ManifestEntry> expected, absl::Span<const ManifestEntry> found) {
  const auto mismatch = [](absl::string_view name, absl::string_view what) {
    return absl::FailedPreconditionError(absl::StrCat("MODEL_MISMATCH: ", name, ": ", what));
  };
  std::map<std::string, const ManifestEntry*> here;
  for (const ManifestEntry& entry : found) here.emplace(entry.name, &entry);
  for (const ManifestEntry& entry : expected) {
    const auto match = here.find(entry.name);
    if (match == here.end()) return mismatch(entry.name, "is not in this machine's folder");
    const ManifestEntry& mine = *match->second;
    if (mine.bytes != entry.bytes) {
      return mismatch(entry.name, absl::StrCat("has ", mine.bytes, " bytes here, ", entry.bytes, " were announced"));
    }
    if (mine.sha256 != entry.sha256) return mismatch(entry.name, "has other contents here than announced");
    here.erase(match);
  }
  if (!here.empty()) return mismatch(here.begin()->first, "is in this machine's folder but was not announced");
  return absl::OkStatus();
}

}  // namespace tandem::model
