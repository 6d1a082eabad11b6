// Finds a model's calls of tools in the text that it writes, as it comes.
//
// Each family has a form of its own; these are read:
//   <tool_call>{"name": "f", "arguments": {..}}</tool_call>    Hermes, Qwen2.5, Qwen3; anywhere in the text
//   [TOOL_CALLS] [{"name": "f", "arguments": {..}}, ..]        Mistral; at the beginning, the first word may be missing
//   f{..}                                                      Mistral's later form, likewise
//   {"name": "f", "parameters": {..}}; {..}                    Llama 3.1 and later; at the beginning
// A control token that introduces a call is not part of the text that the scheduler sends, so the form alone must tell.
// It does, because a call is one only if it names a tool that the request offers. Anything else is text and reaches the
// caller unchanged, only later: text that may still become a call is held until that is known, kLongestCall at most.
//
// Pure; one per choice.
#ifndef TANDEM_CLIENT_GATEWAY_TOOL_CALLS_H_
#define TANDEM_CLIENT_GATEWAY_TOOL_CALLS_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/gateway/raw_json.h"

namespace tandem::gateway {

inline constexpr size_t kLongestCall = 1 << 20;  // bytes that are held for one call
inline constexpr size_t kMostCalls = 128;        // further ones are left out

struct ToolCall {
  std::string name;
  std::string arguments;  // JSON, as the model wrote it
};

class ToolCallReader {
 public:
  // What became certain: text to show, and calls.
  struct Found {
    std::string text;
    std::vector<ToolCall> calls;
  };

  // `names`: the tools that are offered; outlives this. `one_call`: all but the first are left out.
  ToolCallReader(const std::vector<std::string>* names, bool one_call)
      : names_(names), most_calls_(one_call ? 1 : kMostCalls) {}

  Found Read(absl::string_view text);
  // The text has ended: what is held is text, or a call without its closing tag.
  Found End();

  size_t calls() const { return calls_; }  // found so far

 private:
  enum class State {
    kOpen,    // at the beginning or after a call: every form may come
    kText,    // within text: only <tool_call> is looked for
    kTagged,  // after <tool_call>
  };

  // Each decides about the front of held_; false: it cannot, until more text comes.
  bool Open(Found* found);
  bool Text(Found* found);
  bool Tagged(Found* found);
  Found Decide();
  void Take(std::vector<ToolCall> calls, size_t bytes, Found* found);

  bool Offered(absl::string_view name) const;
  // Whether `text` begins with calls without tags, or may when it goes on.
  bool MayBegin(absl::string_view text) const;
  // Such calls, none where it turned out to be something else. Nothing: they are not whole yet.
  std::optional<std::vector<ToolCall>> ParseUntagged(absl::string_view text, size_t* end);
  std::optional<ToolCall> ParseCall(absl::string_view object) const;

  const std::vector<std::string>* const names_;
  const size_t most_calls_;
  State state_ = State::kOpen;
  std::string held_;
  std::string before_tag_;  // white space, no part of the answer if a call follows
  ValueScan scan_;          // of the value that held_ begins with
  bool ended_ = false;
  size_t calls_ = 0;
};

// An identifier for a choice's call. Nine letters and digits: the one shape that Mistral's templates take back.
std::string ToolCallId(absl::string_view request_id, int choice, size_t call);

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_TOOL_CALLS_H_
