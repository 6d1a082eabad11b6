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

// "pair": as "single", with the sequences A and B.
absl::StatusOr<std::vector<PairItem>> ParsePair(const Json& list, const std::string& path, const SpecialIds& special) {
  std::vector<PairItem> pair;
  int32_t type = 0;
  std::string texts;
  if (list.size() > kMaxSurround) return absl::InvalidArgumentError(absl::StrCat(path, " is too long"));
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string item_path = absl::StrCat(path, "[", i, "]");
    JsonFields item(list[i], item_path);
    const Json* sequence = item.AnyOrNull("Sequence");
    const Json* value = sequence != nullptr ? sequence : item.Object("SpecialToken");
    if (absl::Status status = item.Finish(); !status.ok()) return status;
    JsonFields fields(*value, item_path);
    const std::string id = fields.String("id");
    const int64_t its_type = fields.Int("type_id");
    PairItem one;
    if (sequence != nullptr) {
      if (id != "A" && id != "B") fields.Fail("id", "must be \"A\" or \"B\"");
      one.what = id == "A" ? PairItem::What::kFirstText : PairItem::What::kSecondText;
      texts += id;
    } else if (const auto it = special.find(id); it != special.end()) {
      one.ids = it->second;
    } else {
      fields.Fail("id", absl::StrCat(QuotePiece(id), " is not in special_tokens"));
    }
    if (its_type < type || its_type > 1) fields.Fail("type_id", "must be 0 or 1, and never fall");
    if (absl::Status status = fields.Finish(); !status.ok()) return status;
    one.type = type = static_cast<int32_t>(its_type);
    pair.push_back(std::move(one));
  }
  if (texts != "AB") return absl::InvalidArgumentError(absl::StrCat(path, " must have A once and then B once"));
  return pair;
}

// ["[SEP]", 102]
int32_t ParseNamedId(JsonFields* fields, const char* name) {
  const Json* pair = fields->Array(name);
  if (pair == nullptr) return 0;
  if (pair->size() == 2 && (*pair)[1].is_number_unsigned() &&
      (*pair)[1].get<uint64_t>() <= static_cast<uint64_t>(Vocabulary::kMaxId)) {
    return (*pair)[1].get<int32_t>();
  }
  fields->Fail(name, "must be a token and its id");
  return 0;
}

// The two that came before templates. BERT: cls A sep, B sep with type 1. RoBERTa: cls A sep, sep B sep, all of type 0.
void AddClassic(bool roberta, JsonFields* fields, Surround* out) {
  const int32_t sep = ParseNamedId(fields, "sep");
  const int32_t cls = ParseNamedId(fields, "cls");
  if (roberta) {
    for (const char* name : {"trim_offsets", "add_prefix_space"}) fields->Ignore(name);
  }
  using What = PairItem::What;
  const int32_t second = roberta ? 0 : 1;
  out->prefix.insert(out->prefix.begin(), cls);
  out->suffix.push_back(sep);
  out->pair = {{What::kIds, {cls}, 0}, {What::kFirstText, {}, 0}, {What::kIds, {sep}, 0}};
  if (roberta) out->pair.push_back({What::kIds, {sep}, 0});
  out->pair.push_back({What::kSecondText, {}, second});
  out->pair.push_back({What::kIds, {sep}, second});
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
    const Json* pair = fields.AnyOrNull("pair");
    const Json* names = fields.Object("special_tokens");
    const Json* single = fields.Array("single");
    if (names != nullptr && single != nullptr) {
      SpecialIds special;
      absl::Status status = ParseSpecialIds(*names, fields.Path("special_tokens"), &special);
      if (!status.ok()) return status;
      absl::StatusOr<Surround> inner = ParseTemplate(*single, fields.Path("single"), special);
      if (!inner.ok()) return inner.status();
      if (pair != nullptr && pair->is_array() && !pair->empty()) {
        absl::StatusOr<std::vector<PairItem>> items = ParsePair(*pair, fields.Path("pair"), special);
        // A pair of a shape that is not known here is no reason to refuse a model that is asked for single texts only.
        if (items.ok()) out->pair = *std::move(items);
      }
      // A second template goes around the first.
      out->prefix.insert(out->prefix.begin(), inner->prefix.begin(), inner->prefix.end());
      out->suffix.insert(out->suffix.end(), inner->suffix.begin(), inner->suffix.end());
      if (out->prefix.size() + out->suffix.size() > kMaxSurround) {
        fields.Fail("single", absl::StrCat("puts more than ", kMaxSurround, " tokens around a prompt"));
      }
    }
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    AddClassic(type == "RobertaProcessing", &fields, out);
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
