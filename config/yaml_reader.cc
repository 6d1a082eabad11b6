#include "config/yaml_reader.h"

#include <yaml-cpp/yaml.h>

#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/yaml/second_document.h"
#include "config/schema.h"

namespace tandem::config {
namespace {

constexpr size_t kMostBytes = 1 << 20;  // a hundred times the largest that anyone would write

const char* ShapeName(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Scalar:
      return "a value";
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Map:
      return "a section";
    default:
      return "nothing";
  }
}

// One file's reading; the first problem ends it.
class Reader {
 public:
  explicit Reader(const std::string& name) : name_(name) {}

  absl::StatusOr<FileContents> Read(const YAML::Node& root) {
    if (root.IsNull()) return contents_;
    if (const auto status = ReadSection(root, ""); !status.ok()) return status;
    return contents_;
  }

 private:
  static int Line(const YAML::Node& node) { return node.Mark().line + 1; }

  absl::Status Bad(int line, absl::string_view key, absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(name_, ":", line, ": ", key, key.empty() ? "" : ": ", what));
  }

  // Names that may stand in the section `prefix` ("" or "server.").
  static std::vector<std::string> KnownIn(const std::string& prefix) {
    std::set<std::string> names;
    if (prefix.empty()) names.insert("models");
    for (const ClusterKey& key : ClusterKeys()) {
      if (!absl::StartsWith(key.name, prefix)) continue;
      const std::string rest = key.name + prefix.size();
      names.insert(rest.substr(0, rest.find('.')));
    }
    return {names.begin(), names.end()};
  }

  absl::Status Unknown(int line, const std::string& key, const std::string& word,
                       const std::vector<std::string>& known) const {
    const std::string near = DidYouMean(word, known);
    return Bad(line, key,
               near.empty() ? absl::StrCat("unknown key; known here: ", absl::StrJoin(known, ", "))
                            : absl::StrCat("unknown key", near));
  }

  absl::Status ReadSection(const YAML::Node& section, const std::string& prefix) {
    const std::string where = prefix.substr(0, prefix.empty() ? 0 : prefix.size() - 1);
    if (!section.IsMap()) {
      return Bad(Line(section), where, absl::StrCat("expected a section of keys, found ", ShapeName(section)));
    }
    const std::vector<std::string> known = KnownIn(prefix);
    std::set<std::string> seen;
    for (const auto& pair : section) {
      const int line = Line(pair.first);
      if (!pair.first.IsScalar()) return Bad(line, where, "a key must be a word");
      const std::string word = pair.first.Scalar();
      const std::string path = prefix + word;
      if (!seen.insert(word).second) return Bad(line, path, "given twice");
      absl::Status status;
      if (path == "models") {
        status = ReadModels(pair.second, line);
      } else if (const ClusterKey* key = FindClusterKey(path); key != nullptr) {
        status = ReadValue(pair.second, path, path, line, key->shape, contents_.entries);
      } else if (std::find(known.begin(), known.end(), word) != known.end()) {
        status = pair.second.IsNull() ? absl::OkStatus() : ReadSection(pair.second, path + ".");
      } else {
        status = Unknown(line, path, word, known);
      }
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status ReadModels(const YAML::Node& models, int line) {
    if (models.IsNull()) return absl::OkStatus();
    if (!models.IsSequence()) return Bad(line, "models", absl::StrCat("expected a list, found ", ShapeName(models)));
    for (const YAML::Node& model : models) {
      if (!model.IsMap()) {
        return Bad(Line(model), "models", absl::StrCat("expected a section of keys, found ", ShapeName(model)));
      }
      if (const auto status = ReadModel(model); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status ReadModel(const YAML::Node& model) {
    FileModel into{Line(model), {}};
    const std::string where = absl::StrCat("models[", contents_.models.size(), "].");
    std::set<std::string> seen;
    for (const auto& pair : model) {
      const int line = Line(pair.first);
      if (!pair.first.IsScalar()) return Bad(line, where, "a key must be a word");
      const std::string word = pair.first.Scalar();
      if (!seen.insert(word).second) return Bad(line, where + word, "given twice");
      const ModelKey* key = FindModelKey(word);
      if (key == nullptr) {
        std::vector<std::string> known;
        for (const ModelKey& each : ModelKeys()) known.push_back(each.name);
        return Unknown(line, where + word, word, known);
      }
      const auto status = ReadValue(pair.second, where + word, word, line, key->shape, into.entries);
      if (!status.ok()) return status;
    }
    for (const char* needed : {"name", "path"}) {
      if (seen.count(needed) == 0) return Bad(into.line, where + needed, "a model needs it");
    }
    contents_.models.push_back(std::move(into));
    return absl::OkStatus();
  }

  absl::Status ReadValue(const YAML::Node& node, const std::string& shown, const std::string& key, int key_line,
                         Shape shape, std::vector<FileEntry>& into) {
    if (node.IsNull()) return Bad(key_line, shown, "has no value");
    if (node.IsScalar()) {
      into.push_back({key, node.Scalar(), Line(node)});
      return absl::OkStatus();
    }
    if (node.IsSequence() && shape == Shape::kList) {
      std::vector<std::string> items;
      for (const YAML::Node& item : node) {
        if (!item.IsScalar()) return Bad(Line(item), shown, "a list of values, not of lists or sections");
        if (absl::StrContains(item.Scalar(), ',')) return Bad(Line(item), shown, "an item with a comma");
        items.push_back(item.Scalar());
      }
      into.push_back({key, absl::StrJoin(items, ","), key_line});
      return absl::OkStatus();
    }
    if (node.IsMap() && shape == Shape::kRange) return ReadRange(node, shown, key, key_line, into);
    return Bad(Line(node), shown,
               absl::StrCat("expected ", shape == Shape::kList ? "a value or a list" : "a value", ", found ",
                            ShapeName(node)));
  }

  absl::Status ReadRange(const YAML::Node& node, const std::string& shown, const std::string& key, int key_line,
                         std::vector<FileEntry>& into) {
    std::string min, max;
    for (const auto& pair : node) {
      const std::string word = pair.first.IsScalar() ? pair.first.Scalar() : "";
      if (word != "min" && word != "max") {
        return Unknown(Line(pair.first), absl::StrCat(shown, ".", word), word, {"min", "max"});
      }
      if (!pair.second.IsScalar()) return Bad(Line(pair.first), absl::StrCat(shown, ".", word), "expected a number");
      (word == "min" ? min : max) = pair.second.Scalar();
    }
    if (min.empty() || max.empty()) return Bad(key_line, shown, "needs both min and max");
    into.push_back({key, absl::StrCat(min, "..", max), key_line});
    return absl::OkStatus();
  }

  const std::string& name_;
  FileContents contents_;
};

}  // namespace

absl::StatusOr<FileContents> ReadYaml(const std::string& yaml, const std::string& name) {
  if (yaml.size() > kMostBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": ", yaml.size(), " bytes; a configuration has at most 1MiB"));
  }
  // yaml-cpp reports by exceptions; none leaves this function.
  try {
    if (yaml::HasSecondDocument(yaml)) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": more than one document; expected one, and nothing after"));
    }
    const YAML::Node document = YAML::Load(yaml);
    if (document.IsNull()) return FileContents{};
    return Reader(name).Read(document);
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(name, ":", error.mark.line + 1, ": not YAML: ", error.msg));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": not YAML: ", error.what()));
  }
}

}  // namespace tandem::config
