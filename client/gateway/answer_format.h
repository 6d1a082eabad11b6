// The JSON of an answer to /v1/completions and /v1/chat/completions: whole, or as server-sent events in exactly the
// shapes that openai-python reads. Pure; one per request.
//
// A stream is: for each choice its beginning (chat only: the role), deltas, its end with the finish reason; then the
// usage chunk if asked for, and [DONE]. A failure after the beginning is one event {"error": ...} and no [DONE].
#ifndef TANDEM_CLIENT_GATEWAY_ANSWER_FORMAT_H_
#define TANDEM_CLIENT_GATEWAY_ANSWER_FORMAT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/gateway/completion_request.h"
#include "client/gateway/logprobs_json.h"
#include "client/gateway/tool_calls.h"
#include "tandem/v1/inference.pb.h"

namespace tandem::gateway {

// One choice so far.
struct Choice {
  std::string text;             // of a whole answer; a stream has sent it
  std::vector<ToolCall> calls;  // likewise
  LogprobsJson logprobs;        // likewise: of a stream those of text that is held
  v1::Finished finished;
  bool accepted = false;
  bool ended = false;
};

class AnswerFormat {
 public:
  // `id` without its prefix ("chatcmpl-"); `created` in seconds since 1970.
  AnswerFormat(const CompletionRequest& request, absl::string_view id, int64_t created);

  // Each appends whole events.
  void AppendBegin(int index, std::string* out) const;
  // `logprobs`: of this delta alone.
  void AppendDelta(int index, absl::string_view text, const LogprobsJson& logprobs, std::string* out) const;
  // `first`: how many calls of the choice came before these.
  void AppendCalls(int index, const std::vector<ToolCall>& calls, size_t first, const LogprobsJson& logprobs,
                   std::string* out) const;
  // `called`: the choice has called tools.
  void AppendEnd(int index, const v1::Finished& finished, bool called, std::string* out) const;
  void AppendUsage(const std::vector<Choice>& choices, std::string* out) const;
  static void AppendError(const ApiError& error, std::string* out);
  static void AppendDone(std::string* out);

  std::string Whole(const std::vector<Choice>& choices) const;

  const std::string& id() const { return id_; }

 private:
  absl::string_view EventEnd() const;
  const char* FinishReason(const v1::Finished& finished, bool called) const;
  // The members of a message or delta, "tool_calls" or "function_call".
  void AppendCallMembers(int index, const std::vector<ToolCall>& calls, size_t first, bool delta,
                         std::string* out) const;
  void AppendUsageObject(const std::vector<Choice>& choices, std::string* out) const;

  const bool chat_;
  const bool include_usage_;
  const bool elder_calls_;  // "function_call"
  const int n_;
  const std::string id_;
  const std::string head_;  // {"id":...,"object":...,"created":...,"model":...,"choices":[
  const std::string stream_head_;
};

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_ANSWER_FORMAT_H_
