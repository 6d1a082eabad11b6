// Reads a configuration file into (key, text, line) triples and nothing more: shapes and key names are checked here,
// values by the rows of schema.h. Never throws; at most 1 MiB.
#ifndef TANDEM_CONFIG_YAML_READER_H_
#define TANDEM_CONFIG_YAML_READER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem::config {

struct FileEntry {
  std::string key;   // "server.clients"; of a model only "path"
  std::string text;  // a list's items joined by commas, a range as "A..B"
  int line = 0;      // from 1
};

struct FileModel {
  int line = 0;
  std::vector<FileEntry> entries;
};

struct FileContents {
  std::vector<FileEntry> entries;
  std::vector<FileModel> models;
};

// `name` stands in messages: "NAME:LINE: what is wrong".
absl::StatusOr<FileContents> ReadYaml(const std::string& yaml, const std::string& name);

}  // namespace tandem::config

#endif  // TANDEM_CONFIG_YAML_READER_H_
