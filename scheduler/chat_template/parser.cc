#include "scheduler/chat_template/parser.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "scheduler/chat_template/expression_parser.h"
#include "scheduler/chat_template/lexer.h"

namespace tandem::chat {
namespace {

// Blocks in blocks. The deepest in use have about ten.
constexpr int kDeepestBlock = 48;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)), expressions_(&tokens_) {}

  absl::StatusOr<Block> Run() {
    Block block = ParseBlock({});
    if (expressions_.safe_filters() != last_steps_) RefuseSafe(1);
    if (!tokens_.ok()) return tokens_.status();
    return block;
  }

 private:
  using Node = std::unique_ptr<Statement>;
  using Words = absl::Span<const absl::string_view>;

  Node Make(Statement::Kind kind, int line) const {
    auto node = std::make_unique<Statement>();
    node->kind = kind;
    node->line = line;
    return node;
  }

  // Up to "{% word" with one of `ends`; the word is the next token then. Without `ends`: to the end of the source.
  Block ParseBlock(Words ends) {
    Block block;
    if (++depth_ > kDeepestBlock) tokens_.Fail("blocks are nested too deeply");
    const int line = tokens_.line();
    while (tokens_.ok()) {
      if (tokens_.IsKind(Token::Kind::kEnd)) {
        if (!ends.empty()) tokens_.Fail(line, absl::StrCat("a block has no {% ", ends.back(), " %}"));
        break;
      }
      const Token token = tokens_.Take();
      if (token.kind == Token::Kind::kData) {
        Node text = Make(Statement::Kind::kText, token.line);
        text->text = token.text;
        block.push_back(std::move(text));
      } else if (token.kind == Token::Kind::kOutputBegin) {
        block.push_back(ParseOutput(token.line));
      } else {
        for (absl::string_view end : ends) {
          if (tokens_.IsName(end)) {
            --depth_;
            return block;
          }
        }
        if (Node statement = ParseStatement()) block.push_back(std::move(statement));
      }
    }
    --depth_;
    return block;
  }

  // A body up to {% end... %}, which is taken.
  Block ParseBody(absl::string_view end) {
    CloseTag();
    Block body = ParseBlock({end});
    tokens_.Take();
    CloseTag();
    return body;
  }
  void CloseTag() { tokens_.ExpectKind(Token::Kind::kBlockEnd, "'%}'"); }

  Node ParseOutput(int line) {
    Node output = Make(Statement::Kind::kOutput, line);
    output->expressions.push_back(expressions_.ParseTuple());
    const Expression& whole = *output->expressions[0];
    if (whole.kind == Expression::Kind::kFilter && whole.name == "safe") ++last_steps_;
    if (expressions_.safe_filters() != last_steps_) RefuseSafe(line);
    tokens_.ExpectKind(Token::Kind::kOutputEnd, "'}}'");
    return output;
  }

  // In jinja2 its result escapes whatever is added to it, which no prompt wants.
  void RefuseSafe(int line) { tokens_.Fail(line, "filter safe is supported as the last step of {{ ... }} only"); }

  Node ParseStatement() {
    const int line = tokens_.line();
    const std::string word = tokens_.ExpectName();
    if (word == "if") return ParseIf(line);
    if (word == "for") return ParseFor(line);
    if (word == "set") return ParseSet(line);
    if (word == "macro") return ParseMacro(line);
    if (word == "call") return ParseCallBlock(line);
    if (word == "with") return ParseWith(line);
    if (word == "filter") {
      Node filter = Make(Statement::Kind::kFilter, line);
      filter->expressions.push_back(expressions_.ParseFilterChain());
      filter->bodies.push_back(ParseBody("endfilter"));
      return filter;
    }
    if (word == "generation") {
      Node scope = Make(Statement::Kind::kScope, line);
      scope->bodies.push_back(ParseBody("endgeneration"));
      return scope;
    }
    if (word == "print") {
      Node output = Make(Statement::Kind::kOutput, line);
      while (tokens_.ok() && !tokens_.IsKind(Token::Kind::kBlockEnd)) {
        if (!output->expressions.empty()) tokens_.ExpectOperator(",");
        output->expressions.push_back(expressions_.ParseExpression());
      }
      CloseTag();
      return output;
    }
    if (word == "break" || word == "continue") {
      if (loops_ == 0) tokens_.Fail(line, absl::StrCat("{% ", word, " %} outside of a loop"));
      CloseTag();
      return Make(word == "break" ? Statement::Kind::kBreak : Statement::Kind::kContinue, line);
    }
    tokens_.Fail(line, absl::StrCat("{% ", word.substr(0, 64), " %} is not supported"));
    return nullptr;
  }

  Node ParseIf(int line) {
    Node node = Make(Statement::Kind::kIf, line);
    node->expressions.push_back(expressions_.ParseTuple(/*with_ternary=*/false));
    while (tokens_.ok()) {
      CloseTag();
      node->bodies.push_back(ParseBlock({"elif", "else", "endif"}));
      const Token token = tokens_.Take();
      const absl::string_view word = token.text;
      if (word == "elif") {
        node->expressions.push_back(expressions_.ParseTuple(/*with_ternary=*/false));
        continue;
      }
      if (word == "else") {
        node->bodies.push_back(ParseBody("endif"));
      } else {
        CloseTag();
      }
      break;
    }
    return node;
  }

  Node ParseFor(int line) {
    Node node = Make(Statement::Kind::kFor, line);
    node->target = expressions_.ParseTarget(/*in_for=*/true);
    if (!tokens_.SkipName("in")) tokens_.Fail(absl::StrCat("expected 'in', found ", tokens_.Describe()));
    node->expressions.push_back(expressions_.ParseTuple(/*with_ternary=*/false));
    node->expressions.push_back(tokens_.SkipName("if") ? expressions_.ParseExpression() : nullptr);
    if (tokens_.IsName("recursive")) tokens_.Fail("a recursive loop is not supported");
    CloseTag();
    ++loops_;
    node->bodies.push_back(ParseBlock({"else", "endfor"}));
    --loops_;
    if (tokens_.Take().text == "else") {
      node->bodies.push_back(ParseBody("endfor"));
    } else {
      CloseTag();
    }
    return node;
  }

  Node ParseSet(int line) {
    ExpressionPtr target = expressions_.ParseTarget(/*in_for=*/false);
    Node node;
    if (tokens_.SkipOperator("=")) {
      node = Make(Statement::Kind::kSet, line);
      node->expressions.push_back(expressions_.ParseTuple());
      CloseTag();
    } else {
      node = Make(Statement::Kind::kSetBlock, line);
      if (target->kind == Expression::Kind::kTuple) tokens_.Fail("a block is set to one name");
      node->expressions.push_back(tokens_.SkipOperator("|") ? expressions_.ParseFilterChain() : nullptr);
      node->bodies.push_back(ParseBody("endset"));
    }
    node->target = std::move(target);
    return node;
  }

  void ParseParameters(Statement* into) {
    tokens_.ExpectOperator("(");
    while (tokens_.ok() && !tokens_.IsOperator(")")) {
      Parameter parameter;
      parameter.name = tokens_.ExpectName();
      if (tokens_.SkipOperator("=")) {
        parameter.fallback = expressions_.ParseExpression();
      } else if (!into->parameters.empty() && into->parameters.back().fallback != nullptr) {
        tokens_.Fail("a parameter without a default stands behind one with a default");
      }
      into->parameters.push_back(std::move(parameter));
      if (!tokens_.SkipOperator(",")) break;
    }
    tokens_.ExpectOperator(")");
  }

  // A loop around a macro is not the macro's: it may be called elsewhere.
  Block ParseMacroBody(absl::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Block body = ParseBody(end);
    loops_ = loops;
    return body;
  }

  Node ParseMacro(int line) {
    Node node = Make(Statement::Kind::kMacro, line);
    node->text = tokens_.ExpectName();
    ParseParameters(node.get());
    node->bodies.push_back(ParseMacroBody("endmacro"));
    return node;
  }

  Node ParseCallBlock(int line) {
    Node node = Make(Statement::Kind::kCallBlock, line);
    if (tokens_.IsOperator("(")) ParseParameters(node.get());
    node->expressions.push_back(expressions_.ParseExpression());
    if (node->expressions[0]->kind != Expression::Kind::kCall) tokens_.Fail(line, "{% call %} needs a call");
    node->bodies.push_back(ParseMacroBody("endcall"));
    return node;
  }

  Node ParseWith(int line) {
    Node node = Make(Statement::Kind::kWith, line);
    std::vector<ExpressionPtr> targets;
    while (tokens_.ok() && !tokens_.IsKind(Token::Kind::kBlockEnd)) {
      if (!targets.empty()) tokens_.ExpectOperator(",");
      auto target = std::make_unique<Expression>();
      target->kind = Expression::Kind::kName;
      target->line = tokens_.line();
      target->name = tokens_.ExpectName();
      targets.push_back(std::move(target));
      tokens_.ExpectOperator("=");
      node->expressions.push_back(expressions_.ParseExpression());
    }
    for (ExpressionPtr& target : targets) node->expressions.push_back(std::move(target));
    node->bodies.push_back(ParseBody("endwith"));
    return node;
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int depth_ = 0;
  int loops_ = 0;
  int last_steps_ = 0;  // filters "safe" that end a {{ ... }}
};

}  // namespace

absl::StatusOr<Block> Parse(absl::string_view source) {
  auto tokens = Tokenize(source);
  if (!tokens.ok()) return tokens.status();
  return Parser(*std::move(tokens)).Run();
}

}  // namespace tandem::chat
