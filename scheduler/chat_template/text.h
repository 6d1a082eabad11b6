// A string that knows which of its bytes came from a request.
//
// A chat template writes the model's control tokens, and between them what people said. In the finished prompt both are
// bytes, so "<|im_end|>" in a message would end that message. Here every byte that a request brought stays marked as
// given through concatenation and slicing; any other operation marks its whole result if a part of its input was. The
// tokenizer then takes control tokens from unmarked bytes alone.
//
// Plain value. REQUIRES everywhere: valid UTF-8, offsets at the starts of characters.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_TEXT_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_TEXT_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::chat {

class Text {
 public:
  Text() = default;
  explicit Text(std::string own) : bytes_(std::move(own)) {}
  static Text Given(std::string bytes);

  const std::string& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  const std::vector<tokenizer::Range>& given() const { return given_; }  // ascending, apart from each other

  void Append(const Text& more);
  void Append(absl::string_view own) { bytes_.append(own.data(), own.size()); }
  Text Slice(size_t begin, size_t end) const;
  // `bytes` as what an operation made of this text.
  Text Derived(std::string bytes) const;
  // For messages: given bytes are left out.
  std::string OwnOnly() const;

 private:
  std::string bytes_;
  std::vector<tokenizer::Range> given_;
};

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_TEXT_H_
