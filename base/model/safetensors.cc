#include "base/model/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/model/json_fields.h"

namespace tandem::model {
namespace {

using nlohmann::json;

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr int64_t kMaxIndexBytes = 64 << 20;
constexpr int64_t kLengthBytes = 8;
constexpr size_t kMaxRank = 8;
constexpr size_t kMaxFiles = 4096;

struct ElementType {
  const char* name;
  int64_t bytes;
  std::optional<DType> dtype;
};
constexpr ElementType kElementTypes[] = {
    {"F32", 4, DType::kFloat32}, {"BF16", 2, DType::kBFloat16}, {"F16", 2, DType::kFloat16},  {"F64", 8, std::nullopt},
    {"I64", 8, std::nullopt},    {"I32", 4, std::nullopt},      {"I16", 2, std::nullopt},     {"I8", 1, std::nullopt},
    {"U64", 8, std::nullopt},    {"U32", 4, std::nullopt},      {"U16", 2, std::nullopt},     {"U8", 1, std::nullopt},
    {"BOOL", 1, std::nullopt},   {"F8_E4M3", 1, std::nullopt},  {"F8_E5M2", 1, std::nullopt},
};

std::string Quoted(const std::string& name) { return absl::StrCat("\"", name.substr(0, 120), "\""); }

// A whole number in [0, 2^62], or nullopt: negative offsets, fractions and giants are all lies.
std::optional<int64_t> Count(const json& value) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > (uint64_t{1} << 62)) return std::nullopt;
  return static_cast<int64_t>(value.get<uint64_t>());
}

absl::StatusOr<TensorInfo> ParseTensor(const std::string& name, const json& entry, int64_t data_bytes,
                                       absl::string_view where) {
  const auto lie = [&](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": tensor ", Quoted(name), ": ", what));
  };
  if (!entry.is_object()) return lie("expected an object");
  const auto dtype = entry.find("dtype");
  const auto shape = entry.find("shape");
  const auto offsets = entry.find("data_offsets");
  if (dtype == entry.end() || shape == entry.end() || offsets == entry.end()) {
    return lie("needs dtype, shape and data_offsets");
  }
  TensorInfo info;
  if (!dtype->is_string()) return lie("dtype is not a string");
  info.dtype_name = dtype->get<std::string>();
  const auto* type = std::find_if(std::begin(kElementTypes), std::end(kElementTypes),
                                  [&](const ElementType& t) { return info.dtype_name == t.name; });
  if (type == std::end(kElementTypes)) return lie(absl::StrCat("unknown dtype ", Quoted(info.dtype_name)));
  info.dtype = type->dtype;

  if (!shape->is_array() || shape->size() > kMaxRank) {
    return lie(absl::StrCat("shape is not a list of at most ", kMaxRank, " sizes"));
  }
  int64_t bytes = type->bytes;
  for (const json& item : *shape) {
    const std::optional<int64_t> size = Count(item);
    if (!size.has_value()) return lie("shape holds something that is not a size");
    if (__builtin_mul_overflow(bytes, *size, &bytes)) return lie("the sizes of its shape overflow");
    info.shape.push_back(*size);
  }

  if (!offsets->is_array() || offsets->size() != 2) return lie("data_offsets is not a pair");
  const std::optional<int64_t> begin = Count((*offsets)[0]);
  const std::optional<int64_t> end = Count((*offsets)[1]);
  if (!begin.has_value() || !end.has_value()) return lie("data_offsets holds something that is not an offset");
  if (*end < *begin) return lie(absl::StrCat("data_offsets run backwards, ", *begin, " to ", *end));
  if (*end > data_bytes) {
    return lie(absl::StrCat("data_offsets end at ", *end, ", but the file holds ", data_bytes, " bytes of data"));
  }
  if (*end - *begin != bytes) {
    return lie(absl::StrCat("shape and dtype need ", bytes, " bytes, data_offsets span ", *end - *begin));
  }
  info.begin = *begin;
  info.end = *end;
  return info;
}

// The files of an index, each a plain name, so that none can lead out of the folder.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const std::string& folder) {
  absl::StatusOr<std::string> text = ReadSmallFile(absl::StrCat(folder, "/", kIndexFile), kMaxIndexBytes);
  if (!text.ok()) return text.status();
  const absl::StatusOr<json> object = ParseJsonObject(*text, kIndexFile);
  if (!object.ok()) return object.status();
  JsonFields fields(*object, kIndexFile);
  const json* map = fields.Object("weight_map");
  if (!fields.status().ok()) return fields.status();
  if (map == nullptr || map->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(kIndexFile, ": weight_map is missing or empty"));
  }
  std::map<std::string, std::string> file_of;
  for (const auto& [tensor, file] : map->items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
        name.find('\0') != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat(kIndexFile, ": tensor ", Quoted(tensor), " is not in a file of this folder: ", Quoted(name)));
    }
    file_of.emplace(tensor, name);
  }
  return file_of;
}

bool HasPickleWeights(const std::string& folder, std::string* name) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string file = entry.path().filename().string();
    if (absl::EndsWith(file, ".bin") || absl::EndsWith(file, ".pt") || absl::EndsWith(file, ".pth")) {
      *name = file;
      return true;
    }
  }
  return false;
}

}  // namespace

absl::StatusOr<int64_t> SafetensorsHeaderLength(absl::string_view first_bytes, int64_t file_bytes,
                                                absl::string_view where) {
  if (file_bytes < kLengthBytes || first_bytes.size() < static_cast<size_t>(kLengthBytes)) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", file_bytes, " bytes are no safetensors file"));
  }
  uint64_t length = 0;
  for (int64_t i = 0; i < kLengthBytes; ++i) {
    length |= uint64_t{static_cast<uint8_t>(first_bytes[static_cast<size_t>(i)])} << (8 * i);
  }
  if (length > static_cast<uint64_t>(kMaxSafetensorsHeader)) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": header of ", length, " bytes, at most ", kMaxSafetensorsHeader, " are read"));
  }
  if (static_cast<int64_t>(length) > file_bytes - kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": header of ", length, " bytes in a file of ", file_bytes,
                                                   ": the file is cut short, or is no safetensors file"));
  }
  return static_cast<int64_t>(length);
}

absl::StatusOr<std::map<std::string, TensorInfo>> ParseSafetensorsHeader(absl::string_view header, int64_t data_bytes,
                                                                         absl::string_view where) {
  const absl::StatusOr<json> object = ParseJsonObject(header, where);
  if (!object.ok()) return object.status();
  std::map<std::string, TensorInfo> tensors;
  for (const auto& [name, entry] : object->items()) {
    if (name == "__metadata__") continue;
    absl::StatusOr<TensorInfo> info = ParseTensor(name, entry, data_bytes, where);
    if (!info.ok()) return info.status();
    tensors.emplace(name, *std::move(info));
  }
  std::vector<std::pair<const std::string*, const TensorInfo*>> order;
  for (const auto& [name, info] : tensors) order.emplace_back(&name, &info);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return a.second->begin != b.second->begin ? a.second->begin < b.second->begin : a.second->end < b.second->end;
  });
  int64_t covered = 0;
  for (const auto& [name, info] : order) {
    if (info->begin != covered) {
      return absl::InvalidArgumentError(absl::StrCat(
          where, ": tensor ", Quoted(*name), " begins at ", info->begin,
          info->begin < covered ? " inside another, which ends at " : " after a hole that begins at ", covered));
    }
    covered = info->end;
  }
  if (covered != data_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": tensors cover ", covered, " of ", data_bytes, " bytes of data"));
  }
  return tensors;
}

absl::StatusOr<std::vector<std::string>> ListWeightFiles(const std::string& folder) {
  namespace fs = std::filesystem;
  if (fs::exists(fs::path(folder) / kIndexFile)) {
    const auto file_of = ReadIndex(folder);
    if (!file_of.ok()) return file_of.status();
    std::set<std::string> files;
    for (const auto& [tensor, file] : *file_of) files.insert(file);
    if (files.size() > kMaxFiles) {
      return absl::InvalidArgumentError(
          absl::StrCat(kIndexFile, ": ", files.size(), " weight files, at most ", kMaxFiles, " are opened"));
    }
    return std::vector<std::string>(files.begin(), files.end());
  }
  if (fs::exists(fs::path(folder) / kSingleFile)) return std::vector<std::string>{kSingleFile};
  std::string pickle;
  if (HasPickleWeights(folder, &pickle)) {
    return absl::FailedPreconditionError(absl::StrCat(
        folder, ": only pickle weights (", pickle,
        "), which can run code when they are read; convert them once with: scripts/convert_model ", folder));
  }
  return absl::NotFoundError(absl::StrCat(folder, ": no weights: neither ", kSingleFile, " nor ", kIndexFile));
}

// One mapped file.
class WeightFiles::Mapping {
 public:
  Mapping(void* address, size_t bytes) : address_(address), bytes_(bytes) {}
  ~Mapping() { munmap(address_, bytes_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  const char* bytes() const { return static_cast<const char*>(address_); }

  std::map<std::string, TensorInfo> tensors;

 private:
  void* const address_;
  const size_t bytes_;
};

absl::Status WeightFiles::MapFile(const std::string& folder, const std::string& name) {
  const std::string path = absl::StrCat(folder, "/", name);
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::NotFoundError(absl::StrCat(path, ": the weight file cannot be opened"));
  struct stat facts {};
  if (fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode) || facts.st_size < kLengthBytes) {
    close(fd);
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a safetensors file"));
  }
  const size_t bytes = static_cast<size_t>(facts.st_size);
  void* const address = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (address == MAP_FAILED) return absl::ResourceExhaustedError(absl::StrCat(path, ": cannot be mapped"));
  auto mapping = std::make_shared<Mapping>(address, bytes);

  const absl::StatusOr<int64_t> length =
      SafetensorsHeaderLength(absl::string_view(mapping->bytes(), kLengthBytes), facts.st_size, name);
  if (!length.ok()) return length.status();
  const absl::string_view header(mapping->bytes() + kLengthBytes, static_cast<size_t>(*length));
  absl::StatusOr<std::map<std::string, TensorInfo>> tensors =
      ParseSafetensorsHeader(header, facts.st_size - kLengthBytes - *length, name);
  if (!tensors.ok()) return tensors.status();
  mapping->tensors = *std::move(tensors);

  const auto* const data = reinterpret_cast<const uint8_t*>(header.data() + header.size());
  for (const auto& [tensor, info] : mapping->tensors) {
    if (!tensors_.emplace(tensor, TensorView{&info, data + info.begin}).second) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": tensor ", Quoted(tensor), " is in an earlier file too"));
    }
  }
  mappings_.push_back(std::move(mapping));
  return absl::OkStatus();
}

absl::StatusOr<WeightFiles> WeightFiles::Open(const std::string& folder) {
  const absl::StatusOr<std::vector<std::string>> names = ListWeightFiles(folder);
  if (!names.ok()) return names.status();
  WeightFiles files;
  for (const std::string& name : *names) {
    if (absl::Status mapped = files.MapFile(folder, name); !mapped.ok()) return mapped;
  }
  return files;
}

const TensorView* WeightFiles::Find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

}  // namespace tandem::model
