#include "base/log/log.h"

#include <glog/logging.h>
#include <unistd.h>

#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tandem {
namespace {

std::string Quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppendFormat(&out, "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

class JsonSink : public google::LogSink {
 public:
  explicit JsonSink(std::string program) : program_(std::move(program)) {}

  void send(google::LogSeverity severity, const char*, const char* file, int line, const google::LogMessageTime& time,
            const char* message, size_t length) override {
    static constexpr const char* kLevels[] = {"info", "warning", "error", "fatal"};
    const time_t seconds = static_cast<time_t>(time.timestamp());
    tm utc = {};
    gmtime_r(&seconds, &utc);
    const std::string at =
        absl::StrFormat("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                        utc.tm_hour, utc.tm_min, utc.tm_sec, static_cast<int>(time.usec()));
    const std::string text =
        JsonLogLine(at, kLevels[severity], program_, absl::StrCat(file, ":", line), std::string(message, length)) +
        "\n";
    // One write a line, so that lines of several threads and programs do not mix.
    if (write(STDERR_FILENO, text.data(), text.size()) < 0) return;
  }

 private:
  const std::string program_;
};

}  // namespace

std::string JsonLogLine(const std::string& time, const char* level, const std::string& program,
                        const std::string& where, const std::string& message) {
  return absl::StrCat("{\"ts\":", Quoted(time), ",\"level\":\"", level, "\",\"program\":", Quoted(program),
                      ",\"where\":", Quoted(where), ",\"msg\":", Quoted(message), "}");
}

void LogAsJson(const std::string& program) {
  google::AddLogSink(new JsonSink(program));  // lives as long as the process
  FLAGS_logtostderr = false;
  FLAGS_stderrthreshold = google::NUM_SEVERITIES;
  // glog would write files now; it is to write nothing but the sink.
  for (int severity = 0; severity < google::NUM_SEVERITIES; ++severity) google::SetLogDestination(severity, "");
}

}  // namespace tandem
