// Walks a template's tree once and writes the prompt.
//
// Names live in scopes, each with a parent: the caller's variables, the template, and below it every pass of a loop,
// macro call and {% with %}. {% if %} has none of its own, as in jinja2. A macro sees the scope that it was defined in
// for as long as that lives.
//
// For one rendering on one thread. After a failure (see budget.h) everything returns at once.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_INTERPRETER_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_INTERPRETER_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/chat_template/budget.h"
#include "scheduler/chat_template/call.h"
#include "scheduler/chat_template/syntax.h"
#include "scheduler/chat_template/value.h"

namespace tandem::chat {

class Interpreter {
 public:
  // All outlive this object.
  Interpreter(const Block& tree, Budget* budget, absl::Time now) : tree_(tree), budget_(*budget), now_(now) {}

  // Means nothing where the budget's status is an error.
  Text Run(const Dict& variables);

 private:
  struct Scope {
    std::shared_ptr<Scope> parent;
    std::vector<std::pair<std::string, Value>> names;

    void Set(absl::string_view name, Value value);
  };
  using ScopePtr = std::shared_ptr<Scope>;
  enum class Flow { kNext, kBreak, kContinue };

  // statements.cc
  Flow Execute(const Block& block, const ScopePtr& scope, Text* out);
  Flow ExecuteIf(const Statement& node, const ScopePtr& scope, Text* out);
  Flow ExecuteFor(const Statement& node, const ScopePtr& scope, Text* out);
  Flow ExecuteOne(const Statement& node, const ScopePtr& scope, Text* out);
  void Write(const Text& text, Text* out);
  Text Render(const Block& body, const ScopePtr& parent);
  void Assign(const Expression& target, Value value, const ScopePtr& scope);
  Value MakeMacro(const Statement& node, const ScopePtr& scope);
  Value RunMacro(const Statement& node, const ScopePtr& closure, Call& call);
  static ScopePtr Below(const ScopePtr& parent);

  // expressions.cc
  Value Evaluate(const Expression& node, const ScopePtr& scope);
  Value EvaluateHere(const Expression& node, const ScopePtr& scope);
  Value EvaluateOr(const ExpressionPtr& node, const ScopePtr& scope);  // undefined where there is none
  Value EvaluateCall(const Expression& node, const ScopePtr& scope, std::pair<std::string, Value>* more);
  Value EvaluateFilter(const Expression& node, const ScopePtr& scope, const Value* block);
  Value EvaluateList(const Expression& node, const ScopePtr& scope);
  Value EvaluateDict(const Expression& node, const ScopePtr& scope);
  bool EvaluateCompare(const Expression& node, const ScopePtr& scope);
  Call Arguments(const Expression& node, const ScopePtr& scope);
  Call Empty() { return Call(&budget_, now_); }
  static Value Find(const std::string& name, const ScopePtr& scope);

  const Block& tree_;
  Budget& budget_;
  const absl::Time now_;
};

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_INTERPRETER_H_
