// Finds a model's calls of tools in the text that it writes, as it comes.
//
// Each family has a form of its own; these are read:
//   anywhere in the text
//     <tool_call>{"name": "f", "arguments": {..}}</tool_call>                   Hermes, Qwen2.5, Qwen3
//     <tool_call><function=f><parameter=x>..</parameter></function></tool_call>  Qwen3-Coder; outer tag optional
//     <function=f>{..}</function>                                               Llama 3.1, as prompted
//     <tool_call>f <arg_key>x</arg_key><arg_value>..</arg_value></tool_call>    GLM 4.5
//     <|tool_calls_begin|><|tool_call_begin|>f<|tool_sep|>{..}<|tool_call_end|> DeepSeek, in its own letters
//   at the beginning, where a word or token in angles or brackets may be missing
//     [TOOL_CALLS] [{"name": "f", "arguments": {..}}, ..]                       Mistral
//     [TOOL_CALLS] f{..}                                                        Mistral, its later form
//     {"name": "f", "parameters": {..}}; {..}                                   Llama 3.1 and later
//     <|python_tag|>f.call(x="..")                                              Llama 3.1's own tools
//     [f(x=".."), g()]                                                          Llama 3.2 and 4
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
#include "client/gateway/tool_forms.h"

namespace tandem::gateway {

inline constexpr size_t kLongestCall = 1 << 20;  // bytes that are held for one call
inline constexpr size_t kMostCalls = 128;        // further ones are left out

class ToolCallReader {
 public:
  // What became certain: text to show, and calls.
  struct Found {
    std::string text;
    std::vector<ToolCall> calls;
  };

  // `tools`: those that are offered; outlives this. `one_call`: all but the first are left out.
  ToolCallReader(const Tools* tools, bool one_call) : tools_(tools), most_calls_(one_call ? 1 : kMostCalls) {}

  Found Read(absl::string_view text);
  // The text has ended: what is held is text, or a call without its closing tag.
  Found End();

  size_t calls() const { return calls_; }  // found so far

 private:
  enum class State {
    kOpen,    // at the beginning or after a call: every form may come
    kText,    // within text: only tags are looked for
    kTagged,  // after tag_
  };
  // Of the text after a tag, or of a beginning: what it is.
  struct Verdict {
    bool known = false;           // else it depends on what comes
    std::vector<ToolCall> calls;  // none: it is text
    size_t end = 0;               // of the calls
  };
  using Parser = std::optional<ToolCall> (*)(const Tools&, absl::string_view);

  // Each decides about the front of held_; false: it cannot, until more text comes.
  bool Open(Found* found);
  bool Text(Found* found);
  bool Tagged(Found* found);
  Found Decide();
  void Take(Verdict verdict, size_t skipped, Found* found);

  Verdict JudgeTagged(absl::string_view text);
  Verdict JudgeUntagged(absl::string_view text);
  // Calls that end with the bracket whose opening one stands at `begin`.
  Verdict JudgeObject(absl::string_view text, size_t begin);
  Verdict JudgePython(absl::string_view text, size_t begin);
  // A call from `begin` to `closing`.
  Verdict JudgeUntil(absl::string_view text, size_t begin, absl::string_view closing, Parser parse);
  // Whether `text` begins with a tool's name and `after`, or may when it goes on.
  bool MayName(absl::string_view text, absl::string_view after) const;
  bool MayBegin(absl::string_view text) const;

  const Tools* const tools_;
  const size_t most_calls_;
  State state_ = State::kOpen;
  std::string held_;
  std::string before_tag_;  // white space, no part of the answer if a call follows
  absl::string_view tag_;
  std::optional<ValueScan> scan_;  // of the value that held_ begins with
  size_t looked_ = 0;              // so far a closing tag has been looked for
  bool ended_ = false;
  size_t calls_ = 0;
};

// An identifier for a choice's call. Nine letters and digits: the one shape that Mistral's templates take back.
std::string ToolCallId(absl::string_view request_id, int choice, size_t call);

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_TOOL_CALLS_H_
