// The tree of a template. Immutable after parsing; every node knows its line.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_SYNTAX_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_SYNTAX_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/chat_template/value.h"

namespace tandem::chat {

struct Expression;
using ExpressionPtr = std::unique_ptr<const Expression>;

struct Expression {
  enum class Kind {
    kConstant,    // constant
    kName,        // name
    kAttribute,   // parts[0].name
    kItem,        // parts[0][parts[1]]
    kSlice,       // parts[0][parts[1]:parts[2]:parts[3]], null where left out
    kCall,        // parts[0](parts[1...], named...)
    kFilter,      // parts[0] | name(parts[1...], named...); parts[0] null in a filter block
    kTest,        // parts[0] is name(parts[1...], named...)
    kNot,         // parts[0]
    kNegative,    // parts[0]
    kPositive,    // parts[0]
    kAnd,         // parts[0], parts[1]
    kOr,          // parts[0], parts[1]
    kArithmetic,  // parts[0] name parts[1]; name is + - * / // % **
    kConcat,      // parts joined by ~
    kCompare,     // parts[0] operators[0] parts[1] operators[1] parts[2] ...
    kTernary,     // parts[1] if parts[0] else parts[2], null where left out
    kList,
    kTuple,
    kDict,  // key, value, key, value
  };
  Kind kind;
  int line;
  std::string name;
  Value constant;
  std::vector<ExpressionPtr> parts;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  std::vector<std::string> operators;  // == != < <= > >= in, and "not in"
};

struct Statement;
using Block = std::vector<std::unique_ptr<const Statement>>;

struct Parameter {
  std::string name;
  ExpressionPtr fallback;  // null: undefined where it is not given
};

struct Statement {
  enum class Kind {
    kText,       // text
    kOutput,     // expressions
    kIf,         // expressions[i] guards bodies[i]; a last body more is the else
    kFor,        // target in expressions[0] if expressions[1]: bodies[0], else bodies[1]
    kSet,        // target = expressions[0]
    kSetBlock,   // target = bodies[0] through expressions[0], a chain of filters or null
    kMacro,      // text(parameters): bodies[0]
    kCallBlock,  // expressions[0] with bodies[0] and parameters as its caller
    kFilter,     // bodies[0] through expressions[0]
    kWith,       // assignments of expressions[i] to targets of expressions[i + n]: bodies[0]
    kScope,      // bodies[0]; {% generation %}
    kBreak,
    kContinue,
  };
  Kind kind;
  int line;
  std::string text;
  ExpressionPtr target;  // a name, namespace attribute (kAttribute of a kName) or tuple of these
  std::vector<ExpressionPtr> expressions;
  std::vector<Parameter> parameters;
  std::vector<Block> bodies;
};

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_SYNTAX_H_
