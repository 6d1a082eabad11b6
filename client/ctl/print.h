// How tandemctl shows things: tables for people, the proto's JSON mapping (original field names) for programs.
#ifndef TANDEM_CLIENT_CTL_PRINT_H_
#define TANDEM_CLIENT_CTL_PRINT_H_

#include <google/protobuf/message.h>

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tandem::client::ctl {

enum class Format { kTable, kWide, kJson, kYaml, kName };

// Columns as wide as their widest cell, two spaces between, no trailing spaces, one line a row.
class Table {
 public:
  explicit Table(std::vector<std::string> header);
  void Add(std::vector<std::string> row);  // REQUIRES: as many cells as the header
  std::string ToString() const;            // cells coloured where ColourOnStdout()

 private:
  std::vector<std::vector<std::string>> rows_;
};

// Fields at their default are printed too, so that scripts need not know the defaults. Ends with a line feed.
std::string ToJson(const google::protobuf::Message& message);
std::string ToYaml(const google::protobuf::Message& message);

// "ACTIVE" for DEVICE_ACTIVE; the value's number where this build does not know it.
std::string StateWord(const google::protobuf::Message& message, absl::string_view field);

// "yes" or "-", and "-" for nothing: an empty cell cannot be told from a missing one.
std::string OrDash(absl::string_view text);
std::string Milliseconds(uint64_t ms);  // "350ms", "12s", "5m3s"

// True on a terminal without NO_COLOR.
bool ColourOnStdout();
// Wraps the known states in their colour: green in service, yellow on the way, red failed.
std::string Coloured(absl::string_view word);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_PRINT_H_
