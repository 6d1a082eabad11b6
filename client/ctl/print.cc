#include "client/ctl/print.h"

#include <glog/logging.h>
#include <google/protobuf/util/json_util.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace tandem::client::ctl {
namespace {

void UseBlockStyle(YAML::Node node) {
  if (node.IsMap()) {
    node.SetStyle(node.size() == 0 ? YAML::EmitterStyle::Flow : YAML::EmitterStyle::Block);
    for (const auto& pair : node) UseBlockStyle(pair.second);
  } else if (node.IsSequence()) {
    node.SetStyle(node.size() == 0 ? YAML::EmitterStyle::Flow : YAML::EmitterStyle::Block);
    for (const auto& item : node) UseBlockStyle(item);
  }
}

}  // namespace

Table::Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }

void Table::Add(std::vector<std::string> row) {
  CHECK_EQ(row.size(), rows_.front().size());
  rows_.push_back(std::move(row));
}

std::string Table::ToString() const {
  std::vector<size_t> widths(rows_.front().size());
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) {
      absl::StrAppend(&text, Coloured(row[i]));
      if (i + 1 < row.size()) text.append(widths[i] - row[i].size() + 2, ' ');
    }
    text += '\n';
  }
  return text;
}

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  options.add_whitespace = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  CHECK(status.ok()) << message.GetTypeName() << ": " << status.message();
  return json;
}

std::string ToYaml(const google::protobuf::Message& message) {
  YAML::Node node = YAML::Load(ToJson(message));  // JSON is YAML in flow style
  UseBlockStyle(node);
  YAML::Emitter emitter;
  emitter << node;
  return absl::StrCat(emitter.c_str(), "\n");
}

std::string StateWord(const google::protobuf::Message& message, absl::string_view field) {
  const auto* descriptor = message.GetDescriptor()->FindFieldByName(std::string(field));
  CHECK(descriptor != nullptr) << field;
  const int number = message.GetReflection()->GetEnumValue(message, descriptor);
  const auto* value = descriptor->enum_type()->FindValueByNumber(number);
  if (value == nullptr) return absl::StrCat(number);
  if (number == 0) return "-";
  return value->name().substr(value->name().find('_') + 1);
}

std::string OrDash(absl::string_view text) { return text.empty() ? "-" : std::string(text); }

std::string Milliseconds(uint64_t ms) {
  const absl::Duration duration = absl::Milliseconds(static_cast<int64_t>(ms));
  return absl::FormatDuration(ms < 1000 ? duration : absl::Trunc(duration, absl::Seconds(1)));
}

bool ColourOnStdout() {
  static const bool colour = [] {
    const char* refused = std::getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) != 0 && (refused == nullptr || *refused == '\0');
  }();
  return colour;
}

std::string Coloured(absl::string_view word) {
  if (!ColourOnStdout()) return std::string(word);
  const char* code = nullptr;
  if (word == "ACTIVE" || word == "READY" || word == "RUNNING") code = "32";
  if (word == "STARTING" || word == "DRAINING" || word == "FORMING" || word == "LOADING" || word == "MIGRATING") {
    code = "33";
  }
  if (word == "FAILED" || word == "LOST") code = "31";
  if (code == nullptr) return std::string(word);
  return absl::StrCat("\x1b[", code, "m", word, "\x1b[0m");
}

}  // namespace tandem::client::ctl
