// The part of the parser that reads expressions, from the weakest operator down.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_EXPRESSION_PARSER_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_EXPRESSION_PARSER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "scheduler/chat_template/syntax.h"
#include "scheduler/chat_template/token_stream.h"

namespace tandem::chat {

// Never returns null; after an error (in the stream) what it returns means nothing.
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream* tokens) : tokens_(*tokens) {}

  // Without "if": what stands after "in" of a for.
  ExpressionPtr ParseExpression(bool with_ternary = true);
  // The same, or a tuple without brackets.
  ExpressionPtr ParseTuple(bool with_ternary = true, bool in_brackets = false);
  // What can be assigned to. `in_for`: ends before "in", and has no namespace attributes.
  ExpressionPtr ParseTarget(bool in_for);
  // "name | name(...)", for filter blocks; the innermost has a null input.
  ExpressionPtr ParseFilterChain();

  // How many filters called "safe" there were.
  int safe_filters() const { return safe_filters_; }

 private:
  using Node = std::unique_ptr<Expression>;
  struct Depth;

  Node Make(Expression::Kind kind, int line) const;
  Node Join(Expression::Kind kind, int line, ExpressionPtr left, ExpressionPtr right,
            absl::string_view name = "") const;

  ExpressionPtr ParseTernary();
  ExpressionPtr ParseOr();
  ExpressionPtr ParseAnd();
  ExpressionPtr ParseNot();
  ExpressionPtr ParseCompare();
  ExpressionPtr ParseSum();
  ExpressionPtr ParseConcat();
  ExpressionPtr ParseProduct();
  ExpressionPtr ParsePower();
  ExpressionPtr ParseUnary(bool with_filter);
  ExpressionPtr ParsePrimary();
  ExpressionPtr ParsePostfix(ExpressionPtr node);
  ExpressionPtr ParseFiltersAndTests(ExpressionPtr node);
  ExpressionPtr ParseSubscript(ExpressionPtr node);
  ExpressionPtr ParseCall(ExpressionPtr callee);
  ExpressionPtr ParseFilter(ExpressionPtr input);
  ExpressionPtr ParseTest(ExpressionPtr input);
  ExpressionPtr ParseList();
  ExpressionPtr ParseDict();
  void ParseArguments(Expression* into);
  bool AtTupleEnd() const;
  void CountLink();

  TokenStream& tokens_;
  int depth_ = 0;
  int links_ = 0;
  int safe_filters_ = 0;
};

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_EXPRESSION_PARSER_H_
