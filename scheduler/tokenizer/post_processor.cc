#include "scheduler/tokenizer/post_processor.h"

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "scheduler/tokenizer/vocabulary.h"

namespace tandem::tokenizer {
namespace {

constexpr int kMaxDepth = 8;           // sequences inside sequences; files in use have one level
constexpr size_t kMaxSurround = 1024;  // ids; files in use put one or two

using SpecialIds = absl::flat_hash_map<std::string, std::vector<int32_t>>;

// {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
absl::Status ParseSpecialIds(const Json& value, const std::string& path, SpecialIds* special) {
  for (const auto& [name, entry] : value.items()) {
    JsonFields fields(entry, absl::StrCat(path, "[", QuotePiece(name), "]"));
    fields.Ignore("id");
    fields.Ignore("tokens");
    const Json* ids = fields.Array("ids");
    for (size_t i = 0; ids != nullptr && i < ids->size(); ++i) {
      const Json& id = (*ids)[i];
      if (!id.is_number_unsigned() || id.get<uint64_t>() > static_cast<uint64_t>(Vocabulary::kMaxId)) {
        fields.Fail("ids", absl::StrCat("[", i, "] is no token id"));
        break;
      }
      (*special)[name].push_back(id.get<int32_t>());
    }
    if (absl::Status status = fields.Finish(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// "single": a list of {"SpecialToken": {"id", "type_id"}} and one {"Sequence": {"id": "A", "type_id"}}.
absl::StatusOr<Surround> ParseTemplate(const Json& list, const std::string& path, const SpecialIds& special) {
  Surround surround;
  bool seen = false;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string item_path = absl::StrCat(path, "[", i, "]");
    JsonFields item(list[i], item_path);
    if (const Json* whole = item.AnyOrNull("Sequence")) {
      JsonFields sequence(*whole, absl::StrCat(item_path, ".Sequence"));
      sequence.Ignore("type_id");
      if (sequence.String("id") != "A") sequence.Fail("id", "must be \"A\"");
      if (absl::Status status = sequence.Finish(); !status.ok()) return status;
      if (seen) return absl::InvalidArgumentError(absl::StrCat(path, " has the sequence twice"));
      seen = true;
    } else if (const Json* value = item.Object("SpecialToken")) {
      JsonFields token(*value, absl::StrCat(item_path, ".SpecialToken"));
      token.Ignore("type_id");
      const std::string name = token.String("id");
      const auto it = special.find(name);
      if (it == special.end()) token.Fail("id", absl::StrCat(QuotePiece(name), " is not in special_tokens"));
      if (absl::Status status = token.Finish(); !status.ok()) return status;
      std::vector<int32_t>& side = seen ? surround.suffix : surround.prefix;
      side.insert(side.end(), it->second.begin(), it->second.end());
    }
    if (absl::Status status = item.Finish(); !status.ok()) return status;
  }
  if (!seen) return absl::InvalidArgumentError(absl::StrCat(path, " has no sequence"));
  return surround;
}

absl::Status Add(const Json& value, const std::string& path, int depth, Surround* out) {
  JsonFields fields(value, path);
  const std::string type = fields.String("type");
  if (type == "Sequence") {
    if (depth == kMaxDepth) return absl::InvalidArgumentError(absl::StrCat(path, " is nested too deeply"));
    const Json* list = fields.Array("processors");
    for (size_t i = 0; list != nullptr && i < list->size(); ++i) {
      absl::Status status = Add((*list)[i], absl::StrCat(path, ".processors[", i, "]"), depth + 1, out);
      if (!status.ok()) return status;
    }
  } else if (type == "ByteLevel") {
    // It trims offsets, which are not reported.
    for (const char* name : {"add_prefix_space", "trim_offsets", "use_regex"}) fields.Ignore(name);
  } else if (type == "TemplateProcessing") {
    fields.Ignore("pair");  // A prompt is one sequence.
    const Json* names = fields.Object("special_tokens");
    const Json* single = fields.Array("single");
    if (names != nullptr && single != nullptr) {
      SpecialIds special;
      absl::Status status = ParseSpecialIds(*names, fields.Path("special_tokens"), &special);
      if (!status.ok()) return status;
      absl::StatusOr<Surround> inner = ParseTemplate(*single, fields.Path("single"), special);
      if (!inner.ok()) return inner.status();
      // A second template goes around the first.
      out->prefix.insert(out->prefix.begin(), inner->prefix.begin(), inner->prefix.end());
      out->suffix.insert(out->suffix.end(), inner->suffix.begin(), inner->suffix.end());
      if (out->prefix.size() + out->suffix.size() > kMaxSurround) {
        fields.Fail("single", absl::StrCat("puts more than ", kMaxSurround, " tokens around a prompt"));
      }
    }
  } else if (fields.ok()) {
    return absl::UnimplementedError(absl::StrCat(path, ": post-processor ", QuotePiece(type), " is not supported"));
  }
  return fields.Finish();
}

}  // namespace

absl::StatusOr<Surround> ParsePostProcessor(const Json& value) {
  Surround surround;
  if (absl::Status status = Add(value, "post_processor", 0, &surround); !status.ok()) return status;
  return surround;
}

}  // namespace tandem::tokenizer
