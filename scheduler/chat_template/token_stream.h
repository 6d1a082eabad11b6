// Walks over a template's tokens for the two parsers, and keeps the first error.
//
// After an error every token is kEnd, so that a parser runs out by itself.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_TOKEN_STREAM_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_TOKEN_STREAM_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "scheduler/chat_template/token.h"

namespace tandem::chat {

class TokenStream {
 public:
  // REQUIRES: the last is kEnd.
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& Peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  int line() const { return Peek().line; }
  Token Take() {
    Token token = Peek();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }

  bool IsOperator(absl::string_view text, size_t ahead = 0) const { return Is(Token::Kind::kOperator, text, ahead); }
  bool IsName(absl::string_view text, size_t ahead = 0) const { return Is(Token::Kind::kName, text, ahead); }
  bool IsKind(Token::Kind kind) const { return Peek().kind == kind; }
  bool SkipOperator(absl::string_view text) { return IsOperator(text) && (Take(), true); }
  bool SkipName(absl::string_view text) { return IsName(text) && (Take(), true); }
  void ExpectOperator(absl::string_view text) {
    if (!SkipOperator(text)) Fail(absl::StrCat("expected '", text, "', found ", Describe()));
  }
  void ExpectKind(Token::Kind kind, absl::string_view what) {
    if (IsKind(kind)) {
      Take();
    } else {
      Fail(absl::StrCat("expected ", what, ", found ", Describe()));
    }
  }
  std::string ExpectName() {
    if (IsKind(Token::Kind::kName)) return Take().text;
    Fail(absl::StrCat("expected a name, found ", Describe()));
    return {};
  }

  std::string Describe() const {
    switch (Peek().kind) {
      case Token::Kind::kOutputEnd:
        return "'}}'";
      case Token::Kind::kBlockEnd:
        return "'%}'";
      case Token::Kind::kName:
      case Token::Kind::kOperator:
        return absl::StrCat("'", Peek().text.substr(0, 64), "'");
      case Token::Kind::kString:
        return "a string";
      case Token::Kind::kInt:
      case Token::Kind::kFloat:
        return "a number";
      default:
        return "the end";
    }
  }

  void Fail(absl::string_view reason) { Fail(line(), reason); }
  void Fail(int line, absl::string_view reason) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrCat("line ", line, ": ", reason));
    tokens_.resize(1);
    tokens_[0] = Token{.line = line};
    at_ = 0;
  }
  const absl::Status& status() const { return status_; }
  bool ok() const { return status_.ok(); }

 private:
  bool Is(Token::Kind kind, absl::string_view text, size_t ahead) const {
    return Peek(ahead).kind == kind && Peek(ahead).text == text;
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  absl::Status status_;
};

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_TOKEN_STREAM_H_
