// What came out of a request so far: its tokens in order, the logprobs beside them when asked for, and their text.
//
// Exactly once by index: what comes again must be what it was and is dropped, what comes with a hole or cannot be is
// refused. Nothing is ever taken back or changed. Not synchronised; its stream's lock guards it.
#ifndef TANDEM_SCHEDULER_TOKEN_LOG_H_
#define TANDEM_SCHEDULER_TOKEN_LOG_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "scheduler/output_text.h"
#include "tandem/v1/inference.pb.h"
#include "tandem/v1/worker.pb.h"

namespace tandem::scheduler {

class TokenLog {
 public:
  struct Shape {
    std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
    std::vector<std::string> stop;
    bool continues_text = false;  // as OutputText has it
    bool logprobs = false;        // every token comes with its own
    uint32_t vocab_size = 0;
  };
  explicit TokenLog(Shape shape);

  // Tokens that the client says it has; their logprobs are not known. Those behind a stop string are left out.
  // Which stop string they end in, if in one. REQUIRES: the log is empty.
  std::optional<size_t> Recall(absl::Span<const uint32_t> ids);

  // Takes what is new in `produced`, up to `most` tokens in all. Which stop string the last one taken completed, if
  // one; nothing is taken behind it. An error says what cannot be: a hole, a changed token, a token that the model does
  // not have; those before it were taken.
  absl::StatusOr<std::optional<size_t>> Append(const v1::Produced& produced, uint32_t most);

  // No token comes any more: text that was held back is Tail().
  void Finish() { text_.Finish(); }
  absl::string_view Tail() const { return text_.Tail(); }

  // Tokens [begin, end) and what belongs to them, in place of what `chunk` held; fewer where a message could become too
  // large for the far end. The first token left out. REQUIRES: begin <= end <= size().
  size_t Fill(size_t begin, size_t end, v1::Chunk* chunk) const;
  // All tokens and logprobs, for whoever continues from them.
  void Copy(v1::AssignRequest* command) const;
  // Whether `ids` and the log are equal as far as both go.
  bool Agrees(absl::Span<const uint32_t> ids) const;

  size_t size() const { return ids_.size(); }
  size_t bytes() const;

 private:
  const Shape shape_;
  std::vector<uint32_t> ids_;
  std::vector<v1::PositionLogprobs> logprobs_;
  OutputText text_;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_TOKEN_LOG_H_
