// What a rendering may still spend, and its first failure.
//
// A template is a program that comes with a model, and its input comes from anybody. Three numbers bound it: steps (a
// node evaluated, an element visited), bytes of values made, and depth of evaluation. Who runs out, and who meets an
// error, fails once; from then on everything returns at once.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_BUDGET_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_BUDGET_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tandem::chat {

struct Limits {
  int64_t steps = 20'000'000;      // a conversation of a thousand messages takes some hundred thousand
  int64_t bytes = 512ll << 20;     // of all strings and lists made on the way; eight times the longest prompt
  size_t output_bytes = 64 << 20;  // of the prompt
  int depth = 1000;                // expressions in blocks in macros
};

class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits), steps_(limits.steps), bytes_(limits.bytes) {}

  void set_line(int line) { line_ = line; }
  int line() const { return line_; }

  // True while the rendering goes on.
  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }

  bool Step(int64_t count = 1) {
    steps_ -= count;
    if (steps_ < 0) Exhausted("steps", limits_.steps);
    return ok();
  }
  // REQUIRES: before the bytes are made, where they may be many.
  bool Bytes(size_t count) {
    bytes_ -= static_cast<int64_t>(count);
    if (bytes_ < 0) Exhausted("bytes", limits_.bytes);
    return ok();
  }
  bool Output(size_t bytes) {
    if (bytes > limits_.output_bytes) Exhausted("bytes of output", static_cast<int64_t>(limits_.output_bytes));
    return ok();
  }
  bool Enter() {
    if (++depth_ > limits_.depth) Exhausted("levels", limits_.depth);
    return ok();
  }
  void Leave() { --depth_; }

  // The template or its input is wrong. `reason` holds nothing of the input.
  void Fail(absl::string_view reason) { Set(absl::StatusCode::kInvalidArgument, reason); }
  // raise_exception: the template refuses the conversation.
  void Refuse(absl::string_view reason) { Set(absl::StatusCode::kFailedPrecondition, reason); }

 private:
  void Exhausted(absl::string_view what, int64_t limit) {
    Set(absl::StatusCode::kResourceExhausted, absl::StrCat("the template needs more than ", limit, " ", what));
  }
  void Set(absl::StatusCode code, absl::string_view reason) {
    if (status_.ok()) status_ = absl::Status(code, absl::StrCat("line ", line_, ": ", reason));
  }

  const Limits limits_;
  int64_t steps_;
  int64_t bytes_;
  int depth_ = 0;
  int line_ = 0;
  absl::Status status_;
};

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_BUDGET_H_
