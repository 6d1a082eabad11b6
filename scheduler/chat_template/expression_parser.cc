#include "scheduler/chat_template/expression_parser.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/chat_template/builtins.h"

namespace tandem::chat {
namespace {

// Brackets in brackets. Bounds the stack of this parser and, with the depth of blocks, that of a rendering.
constexpr int kDeepestExpression = 64;
// Operators, subscripts and filters of one whole expression: chains of them ("a + b + c ...") nest to the left, and
// this bounds the stack of who walks them.
constexpr int kMostLinks = 400;

}  // namespace

struct ExpressionParser::Depth {
  explicit Depth(ExpressionParser* parser) : parser(parser) {
    if (parser->depth_ == 0) parser->links_ = 0;
    if (++parser->depth_ > kDeepestExpression) parser->tokens_.Fail("an expression is nested too deeply");
  }
  ~Depth() { --parser->depth_; }
  ExpressionParser* const parser;
};

void ExpressionParser::CountLink() {
  if (++links_ > kMostLinks) tokens_.Fail("an expression has too many operators");
}

ExpressionParser::Node ExpressionParser::Make(Expression::Kind kind, int line) const {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = line;
  return node;
}

ExpressionParser::Node ExpressionParser::Join(Expression::Kind kind, int line, ExpressionPtr left, ExpressionPtr right,
                                              absl::string_view name) const {
  Node node = Make(kind, line);
  node->name = std::string(name);
  node->parts.push_back(std::move(left));
  node->parts.push_back(std::move(right));
  return node;
}

ExpressionPtr ExpressionParser::ParseExpression(bool with_ternary) {
  Depth depth(this);
  return with_ternary ? ParseTernary() : ParseOr();
}

ExpressionPtr ExpressionParser::ParseTernary() {
  int line = tokens_.line();
  ExpressionPtr value = ParseOr();
  while (tokens_.SkipName("if")) {
    CountLink();
    Node node = Make(Expression::Kind::kTernary, line);
    node->parts.push_back(ParseOr());
    node->parts.push_back(std::move(value));
    node->parts.push_back(tokens_.SkipName("else") ? ParseExpression() : nullptr);
    value = std::move(node);
    line = tokens_.line();
  }
  return value;
}

ExpressionPtr ExpressionParser::ParseOr() {
  ExpressionPtr left = ParseAnd();
  while (tokens_.SkipName("or")) {
    CountLink();
    left = Join(Expression::Kind::kOr, tokens_.line(), std::move(left), ParseAnd());
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseAnd() {
  ExpressionPtr left = ParseNot();
  while (tokens_.SkipName("and")) {
    CountLink();
    left = Join(Expression::Kind::kAnd, tokens_.line(), std::move(left), ParseNot());
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseNot() {
  if (!tokens_.IsName("not")) return ParseCompare();
  Depth depth(this);
  Node node = Make(Expression::Kind::kNot, tokens_.Take().line);
  node->parts.push_back(ParseNot());
  return node;
}

ExpressionPtr ExpressionParser::ParseCompare() {
  const int line = tokens_.line();
  ExpressionPtr first = ParseSum();
  Node node;
  while (true) {
    std::string op;
    for (const char* candidate : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (tokens_.SkipOperator(candidate)) op = candidate;
      if (!op.empty()) break;
    }
    if (op.empty() && tokens_.SkipName("in")) op = "in";
    if (op.empty() && tokens_.IsName("not") && tokens_.IsName("in", 1)) {
      tokens_.Take();
      tokens_.Take();
      op = "not in";
    }
    if (op.empty()) break;
    if (node == nullptr) {
      node = Make(Expression::Kind::kCompare, line);
      node->parts.push_back(std::move(first));
    }
    node->operators.push_back(op);
    node->parts.push_back(ParseSum());
  }
  if (node != nullptr) return node;
  return first;
}

ExpressionPtr ExpressionParser::ParseSum() {
  ExpressionPtr left = ParseConcat();
  while (tokens_.IsOperator("+") || tokens_.IsOperator("-")) {
    CountLink();
    const Token op = tokens_.Take();
    left = Join(Expression::Kind::kArithmetic, op.line, std::move(left), ParseConcat(), op.text);
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseConcat() {
  const int line = tokens_.line();
  ExpressionPtr first = ParseProduct();
  if (!tokens_.IsOperator("~")) return first;
  Node node = Make(Expression::Kind::kConcat, line);
  node->parts.push_back(std::move(first));
  while (tokens_.SkipOperator("~")) node->parts.push_back(ParseProduct());
  return node;
}

ExpressionPtr ExpressionParser::ParseProduct() {
  ExpressionPtr left = ParsePower();
  const auto at_operator = [&] {
    return tokens_.IsOperator("*") || tokens_.IsOperator("/") || tokens_.IsOperator("//") || tokens_.IsOperator("%");
  };
  while (at_operator()) {
    CountLink();
    const Token op = tokens_.Take();
    if (op.text == "%" && left->kind == Expression::Kind::kConstant && left->constant.is_string()) {
      tokens_.Fail("formatting a string with % is not supported");
    }
    left = Join(Expression::Kind::kArithmetic, op.line, std::move(left), ParsePower(), op.text);
  }
  return left;
}

ExpressionPtr ExpressionParser::ParsePower() {
  ExpressionPtr left = ParseUnary(true);
  while (tokens_.IsOperator("**")) {
    CountLink();
    const Token op = tokens_.Take();
    left = Join(Expression::Kind::kArithmetic, op.line, std::move(left), ParseUnary(true), op.text);
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseUnary(bool with_filter) {
  Depth depth(this);
  ExpressionPtr node;
  if (tokens_.IsOperator("-") || tokens_.IsOperator("+")) {
    const Token sign = tokens_.Take();
    Node unary = Make(sign.text == "-" ? Expression::Kind::kNegative : Expression::Kind::kPositive, sign.line);
    unary->parts.push_back(ParseUnary(false));
    node = std::move(unary);
  } else {
    node = ParsePrimary();
  }
  node = ParsePostfix(std::move(node));
  return with_filter ? ParseFiltersAndTests(std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::ParsePrimary() {
  const int line = tokens_.line();
  const auto constant = [&](Value value) {
    Node node = Make(Expression::Kind::kConstant, line);
    node->constant = std::move(value);
    return node;
  };
  switch (tokens_.Peek().kind) {
    case Token::Kind::kName: {
      const std::string name = tokens_.Take().text;
      if (name == "true" || name == "True") return constant(Value::Bool(true));
      if (name == "false" || name == "False") return constant(Value::Bool(false));
      if (name == "none" || name == "None") return constant(Value::None());
      Node node = Make(Expression::Kind::kName, line);
      node->name = name;
      return node;
    }
    case Token::Kind::kString: {
      std::string text;
      while (tokens_.IsKind(Token::Kind::kString)) text += tokens_.Take().text;
      return constant(Value::String(Text(std::move(text))));
    }
    case Token::Kind::kInt:
      return constant(Value::Int(tokens_.Take().number));
    case Token::Kind::kFloat:
      return constant(Value::Float(tokens_.Take().real));
    default:
      break;
  }
  if (tokens_.SkipOperator("(")) {
    ExpressionPtr inside = ParseTuple(/*with_ternary=*/true, /*in_brackets=*/true);
    tokens_.ExpectOperator(")");
    return inside;
  }
  if (tokens_.IsOperator("[")) return ParseList();
  if (tokens_.IsOperator("{")) return ParseDict();
  tokens_.Fail(absl::StrCat("expected an expression, found ", tokens_.Describe()));
  return constant(Value::None());
}

bool ExpressionParser::AtTupleEnd() const {
  return tokens_.IsKind(Token::Kind::kOutputEnd) || tokens_.IsKind(Token::Kind::kBlockEnd) ||
         tokens_.IsKind(Token::Kind::kEnd) || tokens_.IsOperator(")") || tokens_.IsName("in");
}

ExpressionPtr ExpressionParser::ParseTuple(bool with_ternary, bool in_brackets) {
  Depth depth(this);
  Node tuple = Make(Expression::Kind::kTuple, tokens_.line());
  bool has_comma = false;
  while (!AtTupleEnd()) {
    tuple->parts.push_back(ParseExpression(with_ternary));
    if (!tokens_.SkipOperator(",")) break;
    has_comma = true;
  }
  if (has_comma) return tuple;
  if (tuple->parts.empty()) {
    if (!in_brackets) tokens_.Fail(absl::StrCat("expected an expression, found ", tokens_.Describe()));
    return tuple;
  }
  return std::move(tuple->parts[0]);
}

ExpressionPtr ExpressionParser::ParseTarget(bool in_for) {
  Node tuple = Make(Expression::Kind::kTuple, tokens_.line());
  bool has_comma = false;
  const auto is_reserved = [](const std::string& name) {
    static constexpr absl::string_view kWords[] = {"true", "True", "false", "False", "none",
                                                   "None", "not",  "and",   "or"};
    return std::find(std::begin(kWords), std::end(kWords), name) != std::end(kWords);
  };
  while (tokens_.ok()) {
    if (tokens_.SkipOperator("(")) {
      tuple->parts.push_back(ParseTarget(in_for));
      tokens_.ExpectOperator(")");
    } else {
      Node name = Make(Expression::Kind::kName, tokens_.line());
      name->name = tokens_.ExpectName();
      if (is_reserved(name->name)) tokens_.Fail(absl::StrCat("cannot assign to ", name->name));
      if (!in_for && tokens_.SkipOperator(".")) {
        Node attribute = Make(Expression::Kind::kAttribute, name->line);
        attribute->name = tokens_.ExpectName();
        attribute->parts.push_back(std::move(name));
        tuple->parts.push_back(std::move(attribute));
      } else {
        tuple->parts.push_back(std::move(name));
      }
    }
    if (!tokens_.SkipOperator(",")) break;
    has_comma = true;
    if (AtTupleEnd() || tokens_.IsOperator("=")) break;
  }
  if (has_comma || tuple->parts.size() != 1) return tuple;
  return std::move(tuple->parts[0]);
}

ExpressionPtr ExpressionParser::ParseList() {
  Node list = Make(Expression::Kind::kList, tokens_.Take().line);
  while (tokens_.ok() && !tokens_.IsOperator("]")) {
    list->parts.push_back(ParseExpression());
    if (!tokens_.SkipOperator(",")) break;
  }
  tokens_.ExpectOperator("]");
  return list;
}

ExpressionPtr ExpressionParser::ParseDict() {
  Node dict = Make(Expression::Kind::kDict, tokens_.Take().line);
  while (tokens_.ok() && !tokens_.IsOperator("}")) {
    dict->parts.push_back(ParseExpression());
    tokens_.ExpectOperator(":");
    dict->parts.push_back(ParseExpression());
    if (!tokens_.SkipOperator(",")) break;
  }
  tokens_.ExpectOperator("}");
  return dict;
}

ExpressionPtr ExpressionParser::ParsePostfix(ExpressionPtr node) {
  while (true) {
    CountLink();
    if (tokens_.IsOperator(".") || tokens_.IsOperator("[")) {
      node = ParseSubscript(std::move(node));
    } else if (tokens_.IsOperator("(")) {
      node = ParseCall(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::ParseFiltersAndTests(ExpressionPtr node) {
  while (true) {
    CountLink();
    if (tokens_.SkipOperator("|")) {
      node = ParseFilter(std::move(node));
    } else if (tokens_.SkipName("is")) {
      node = ParseTest(std::move(node));
    } else if (tokens_.IsOperator("(")) {
      node = ParseCall(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::ParseSubscript(ExpressionPtr node) {
  const int line = tokens_.line();
  if (tokens_.SkipOperator(".")) {
    if (tokens_.IsKind(Token::Kind::kInt)) {
      Node index = Make(Expression::Kind::kConstant, line);
      index->constant = Value::Int(tokens_.Take().number);
      return Join(Expression::Kind::kItem, line, std::move(node), std::move(index));
    }
    Node attribute = Make(Expression::Kind::kAttribute, line);
    attribute->name = tokens_.ExpectName();
    attribute->parts.push_back(std::move(node));
    return attribute;
  }
  tokens_.ExpectOperator("[");
  const auto slice_ends = [&] { return tokens_.IsOperator("]") || tokens_.IsOperator(":"); };
  ExpressionPtr first;
  if (!tokens_.IsOperator(":")) first = ParseExpression();
  if (!tokens_.SkipOperator(":")) {
    if (tokens_.IsOperator(",")) tokens_.Fail("an index of several values is not supported");
    tokens_.ExpectOperator("]");
    return Join(Expression::Kind::kItem, line, std::move(node), std::move(first));
  }
  Node slice = Join(Expression::Kind::kSlice, line, std::move(node), std::move(first));
  slice->parts.push_back(slice_ends() ? nullptr : ParseExpression());
  slice->parts.push_back(tokens_.SkipOperator(":") && !slice_ends() ? ParseExpression() : nullptr);
  tokens_.ExpectOperator("]");
  return slice;
}

void ExpressionParser::ParseArguments(Expression* into) {
  tokens_.ExpectOperator("(");
  while (tokens_.ok() && !tokens_.IsOperator(")")) {
    if (tokens_.IsOperator("*") || tokens_.IsOperator("**")) {
      return tokens_.Fail("arguments with * or ** are not supported");
    }
    if (tokens_.IsKind(Token::Kind::kName) && tokens_.IsOperator("=", 1)) {
      std::string name = tokens_.Take().text;
      tokens_.Take();
      for (const auto& [other, value] : into->named) {
        if (other == name) return tokens_.Fail(absl::StrCat("argument ", name, " is given twice"));
      }
      into->named.emplace_back(std::move(name), ParseExpression());
    } else {
      if (!into->named.empty()) return tokens_.Fail("an argument without a name stands behind one with a name");
      into->parts.push_back(ParseExpression());
    }
    if (!tokens_.SkipOperator(",")) break;
  }
  tokens_.ExpectOperator(")");
}

ExpressionPtr ExpressionParser::ParseCall(ExpressionPtr callee) {
  Node call = Make(Expression::Kind::kCall, tokens_.line());
  if (callee->kind == Expression::Kind::kAttribute && !IsMethod(callee->name)) {
    tokens_.Fail(absl::StrCat("method ", callee->name, "() is not supported"));
  }
  if (callee->kind == Expression::Kind::kName && IsRefusedFunction(callee->name)) {
    tokens_.Fail(absl::StrCat("function ", callee->name, "() is not supported"));
  }
  call->parts.push_back(std::move(callee));
  ParseArguments(call.get());
  return call;
}

ExpressionPtr ExpressionParser::ParseFilter(ExpressionPtr input) {
  Node filter = Make(Expression::Kind::kFilter, tokens_.line());
  filter->name = tokens_.ExpectName();
  if (filter->name == "safe") ++safe_filters_;
  if (tokens_.ok() && !IsFilter(filter->name)) tokens_.Fail(absl::StrCat("filter ", filter->name, " is not supported"));
  filter->parts.push_back(std::move(input));
  if (tokens_.IsOperator("(")) ParseArguments(filter.get());
  return filter;
}

ExpressionPtr ExpressionParser::ParseFilterChain() {
  ExpressionPtr chain = ParseFilter(nullptr);
  while (tokens_.SkipOperator("|")) chain = ParseFilter(std::move(chain));
  return chain;
}

ExpressionPtr ExpressionParser::ParseTest(ExpressionPtr input) {
  const int line = tokens_.line();
  const bool negated = tokens_.SkipName("not");
  Node test = Make(Expression::Kind::kTest, line);
  test->name = tokens_.ExpectName();
  if (tokens_.ok() && !IsTest(test->name)) tokens_.Fail(absl::StrCat("test ", test->name, " is not supported"));
  test->parts.push_back(std::move(input));
  const auto kind = tokens_.Peek().kind;
  const bool is_word = tokens_.IsName("else") || tokens_.IsName("or") || tokens_.IsName("and");
  if (tokens_.IsOperator("(")) {
    ParseArguments(test.get());
  } else if (tokens_.IsName("is")) {
    tokens_.Fail("tests cannot be chained with 'is'");
  } else if ((kind == Token::Kind::kName && !is_word) || kind == Token::Kind::kString || kind == Token::Kind::kInt ||
             kind == Token::Kind::kFloat || tokens_.IsOperator("[") || tokens_.IsOperator("{")) {
    test->parts.push_back(ParsePostfix(ParsePrimary()));
  }
  if (!negated) return test;
  Node node = Make(Expression::Kind::kNot, line);
  node->parts.push_back(std::move(test));
  return node;
}

}  // namespace tandem::chat
