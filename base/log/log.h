// How all programs log: glog to stderr, as text or as JSON lines.
//
// A JSON line has ts (UTC, microseconds), level, program, where (file:line) and msg, in this order. Nothing that a
// client asked, and no token, is ever put into a log line; tests/e2e/test_metrics.py looks for it.
#ifndef TANDEM_BASE_LOG_LOG_H_
#define TANDEM_BASE_LOG_LOG_H_

#include <string>

namespace tandem {

// From here on every line is JSON. REQUIRES: google::InitGoogleLogging was called; called once, before threads.
void LogAsJson(const std::string& program);

// One line without its line feed; for the sink and its test.
std::string JsonLogLine(const std::string& time, const char* level, const std::string& program,
                        const std::string& where, const std::string& message);

}  // namespace tandem

#endif  // TANDEM_BASE_LOG_LOG_H_
