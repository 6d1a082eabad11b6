#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/chat_template/interpreter.h"
#include "scheduler/chat_template/loop.h"
#include "scheduler/chat_template/print.h"

namespace tandem::chat {

void Interpreter::Scope::Set(absl::string_view name, Value value) {
  for (auto& [known, old] : names) {
    if (known == name) {
      old = std::move(value);
      return;
    }
  }
  names.emplace_back(std::string(name), std::move(value));
}

Interpreter::ScopePtr Interpreter::Below(const ScopePtr& parent) {
  auto scope = std::make_shared<Scope>();
  scope->parent = parent;
  return scope;
}

Text Interpreter::Run(const Dict& variables) {
  auto outermost = std::make_shared<Scope>();
  for (const auto& [name, value] : variables.entries()) outermost->Set(name.bytes(), value);
  Text out;
  Execute(tree_, Below(outermost), &out);
  return out;
}

void Interpreter::Write(const Text& text, Text* out) {
  if (!budget_.Bytes(text.size()) || !budget_.Output(out->size() + text.size())) return;
  out->Append(text);
}

Text Interpreter::Render(const Block& body, const ScopePtr& parent) {
  Text out;
  Execute(body, Below(parent), &out);
  return out;
}

Interpreter::Flow Interpreter::Execute(const Block& block, const ScopePtr& scope, Text* out) {
  Flow flow = Flow::kNext;
  if (!budget_.Enter()) return flow;
  for (const auto& statement : block) {
    if (!budget_.Step()) break;
    budget_.set_line(statement->line);
    flow = ExecuteOne(*statement, scope, out);
    if (flow != Flow::kNext) break;
  }
  budget_.Leave();
  return flow;
}

Interpreter::Flow Interpreter::ExecuteOne(const Statement& node, const ScopePtr& scope, Text* out) {
  switch (node.kind) {
    case Statement::Kind::kText:
      if (budget_.Bytes(node.text.size()) && budget_.Output(out->size() + node.text.size())) out->Append(node.text);
      break;
    case Statement::Kind::kOutput:
      for (const auto& expression : node.expressions) {
        const Value value = Evaluate(*expression, scope);
        if (!budget_.ok()) break;
        Write(Str(value, &budget_), out);
      }
      break;
    case Statement::Kind::kIf:
      return ExecuteIf(node, scope, out);
    case Statement::Kind::kFor:
      return ExecuteFor(node, scope, out);
    case Statement::Kind::kSet:
      Assign(*node.target, Evaluate(*node.expressions[0], scope), scope);
      break;
    case Statement::Kind::kSetBlock: {
      Value value = Value::String(Render(node.bodies[0], scope));
      if (node.expressions[0] != nullptr) value = EvaluateFilter(*node.expressions[0], scope, &value);
      Assign(*node.target, std::move(value), scope);
      break;
    }
    case Statement::Kind::kMacro:
      scope->Set(node.text, MakeMacro(node, scope));
      break;
    case Statement::Kind::kCallBlock: {
      std::pair<std::string, Value> caller = {"caller", MakeMacro(node, scope)};
      const Value value = EvaluateCall(*node.expressions[0], scope, &caller);
      if (budget_.ok()) Write(Str(value, &budget_), out);
      break;
    }
    case Statement::Kind::kFilter: {
      const Value body = Value::String(Render(node.bodies[0], scope));
      const Value value = EvaluateFilter(*node.expressions[0], scope, &body);
      if (budget_.ok()) Write(Str(value, &budget_), out);
      break;
    }
    case Statement::Kind::kWith: {
      const ScopePtr inside = Below(scope);
      const size_t count = node.expressions.size() / 2;
      for (size_t i = 0; i < count; ++i) {
        inside->Set(node.expressions[count + i]->name, Evaluate(*node.expressions[i], scope));
      }
      return Execute(node.bodies[0], inside, out);
    }
    case Statement::Kind::kScope:
      return Execute(node.bodies[0], Below(scope), out);
    case Statement::Kind::kBreak:
      return Flow::kBreak;
    case Statement::Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::ExecuteIf(const Statement& node, const ScopePtr& scope, Text* out) {
  for (size_t i = 0; i < node.expressions.size(); ++i) {
    const bool holds = Evaluate(*node.expressions[i], scope).Truthy();
    if (!budget_.ok()) return Flow::kNext;
    if (holds) return Execute(node.bodies[i], scope, out);
  }
  if (node.bodies.size() > node.expressions.size()) return Execute(node.bodies.back(), scope, out);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::ExecuteFor(const Statement& node, const ScopePtr& scope, Text* out) {
  Call call = Empty();
  const Value over = Evaluate(*node.expressions[0], scope);
  budget_.set_line(node.line);
  List items = call.Iterate(over);
  if (node.expressions[1] != nullptr) {
    List passed;
    for (Value& item : items) {
      const ScopePtr inside = Below(scope);
      Assign(*node.target, item, inside);
      const bool passes = Evaluate(*node.expressions[1], inside).Truthy();
      if (!budget_.Step()) return Flow::kNext;
      if (passes) passed.push_back(std::move(item));
    }
    items = std::move(passed);
  }
  if (!budget_.ok()) return Flow::kNext;
  if (items.empty()) return node.bodies.size() > 1 ? Execute(node.bodies[1], Below(scope), out) : Flow::kNext;
  const auto loop = std::make_shared<Loop>(std::move(items));
  for (size_t i = 0; i < loop->items().size(); ++i) {
    if (!budget_.Step()) break;
    loop->MoveTo(i);
    const ScopePtr inside = Below(scope);
    inside->Set("loop", Value::MakeObject(loop));
    Assign(*node.target, loop->items()[i], inside);
    if (Execute(node.bodies[0], inside, out) == Flow::kBreak) break;
  }
  return Flow::kNext;
}

void Interpreter::Assign(const Expression& target, Value value, const ScopePtr& scope) {
  if (!budget_.ok()) return;
  if (target.kind == Expression::Kind::kName) return scope->Set(target.name, std::move(value));
  if (target.kind == Expression::Kind::kAttribute) {
    const Value object = Find(target.parts[0]->name, scope);
    if (!object.Is(Value::Kind::kObject)) {
      return budget_.Fail(absl::StrCat("'", target.parts[0]->name, "' is no namespace, and cannot be assigned to"));
    }
    if (object.object().Set(target.name, std::move(value))) return;
    return budget_.Fail(absl::StrCat("'", target.name, "' cannot be assigned to, or not this value"));
  }
  Call call = Empty();
  const List items = call.Iterate(value);
  if (!budget_.ok()) return;
  if (items.size() != target.parts.size()) {
    return budget_.Fail(absl::StrCat(items.size(), " values for ", target.parts.size(), " names"));
  }
  for (size_t i = 0; i < items.size(); ++i) Assign(*target.parts[i], items[i], scope);
}

Value Interpreter::MakeMacro(const Statement& node, const ScopePtr& scope) {
  return Value::MakeFunction(node.text, [this, &node, weak = std::weak_ptr<Scope>(scope)](Call& call) {
    const ScopePtr closure = weak.lock();
    if (closure == nullptr) return call.Fail("a macro is called outside of the loop that it was defined in");
    return RunMacro(node, closure, call);
  });
}

Value Interpreter::RunMacro(const Statement& node, const ScopePtr& closure, Call& call) {
  const ScopePtr scope = Below(closure);
  if (call.positional.size() > node.parameters.size()) {
    return call.Fail(absl::StrCat("macro ", node.text, " takes ", node.parameters.size(), " arguments, not ",
                                  call.positional.size()));
  }
  for (const auto& [name, value] : call.named) {
    bool known = name == "caller";
    for (size_t i = 0; i < node.parameters.size() && !known; ++i) {
      known = node.parameters[i].name == name && i >= call.positional.size();
    }
    if (!known) return call.Fail(absl::StrCat("macro ", node.text, " takes no further argument ", name));
    if (name == "caller") scope->Set(name, value);
  }
  for (size_t i = 0; i < node.parameters.size(); ++i) {
    const Parameter& parameter = node.parameters[i];
    Value value = Value::Undefined(absl::StrCat("'", parameter.name, "'"));
    bool given = i < call.positional.size();
    if (given) value = call.positional[i];
    for (const auto& [name, named] : call.named) {
      if (name != parameter.name) continue;
      value = named;
      given = true;
    }
    if (!given && parameter.fallback != nullptr) value = Evaluate(*parameter.fallback, scope);
    scope->Set(parameter.name, std::move(value));
  }
  Text out;
  Execute(node.bodies[0], scope, &out);
  return Value::String(std::move(out));
}

}  // namespace tandem::chat
