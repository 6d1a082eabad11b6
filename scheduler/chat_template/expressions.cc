#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/chat_template/builtins.h"
#include "scheduler/chat_template/interpreter.h"
#include "scheduler/chat_template/operators.h"
#include "scheduler/chat_template/print.h"

namespace tandem::chat {

Value Interpreter::Find(const std::string& name, const ScopePtr& scope) {
  for (const Scope* at = scope.get(); at != nullptr; at = at->parent.get()) {
    for (const auto& [known, value] : at->names) {
      if (known == name) return value;
    }
  }
  if (auto function = FindFunction(name)) return *std::move(function);
  return Value::Undefined(absl::StrCat("'", name, "'"));
}

Value Interpreter::EvaluateOr(const ExpressionPtr& node, const ScopePtr& scope) {
  return node == nullptr ? Value() : Evaluate(*node, scope);
}

Value Interpreter::Evaluate(const Expression& node, const ScopePtr& scope) {
  if (!budget_.Step() || !budget_.Enter()) return Value();
  budget_.set_line(node.line);
  Value value = EvaluateHere(node, scope);
  budget_.Leave();
  return value;
}

Value Interpreter::EvaluateHere(const Expression& node, const ScopePtr& scope) {
  Call call = Empty();
  switch (node.kind) {
    case Expression::Kind::kConstant:
      return node.constant;
    case Expression::Kind::kName:
      return Find(node.name, scope);
    case Expression::Kind::kAttribute: {
      const Value of = Evaluate(*node.parts[0], scope);
      if (!of.defined()) return call.Fail(absl::StrCat(of.undefined_name(), " is undefined"));
      return GetAttribute(of, node.name);
    }
    case Expression::Kind::kItem: {
      const Value of = Evaluate(*node.parts[0], scope), key = Evaluate(*node.parts[1], scope);
      if (!of.defined()) return call.Fail(absl::StrCat(of.undefined_name(), " is undefined"));
      if (of.is_string() && !call.budget().Step(static_cast<int64_t>(of.text().size() / 16))) return Value();
      return GetItem(of, key);
    }
    case Expression::Kind::kSlice: {
      const Value of = Evaluate(*node.parts[0], scope), first = EvaluateOr(node.parts[1], scope);
      const Value last = EvaluateOr(node.parts[2], scope), step = EvaluateOr(node.parts[3], scope);
      return Slice(of, first, last, step, call);
    }
    case Expression::Kind::kCall:
      return EvaluateCall(node, scope, nullptr);
    case Expression::Kind::kFilter:
      return EvaluateFilter(node, scope, nullptr);
    case Expression::Kind::kTest: {
      const Value input = Evaluate(*node.parts[0], scope);
      Call arguments = Arguments(node, scope);
      return Value::Bool(budget_.ok() && RunTest(node.name, input, arguments));
    }
    case Expression::Kind::kNot:
      return Value::Bool(!Evaluate(*node.parts[0], scope).Truthy());
    case Expression::Kind::kNegative:
      return Negate(Evaluate(*node.parts[0], scope), call);
    case Expression::Kind::kPositive: {
      const Value value = Evaluate(*node.parts[0], scope);
      if (!value.is_number()) return call.Fail(absl::StrCat("'+' is not defined for ", value.TypeName()));
      return value.Is(Value::Kind::kBool) ? Value::Int(value.AsInt()) : value;
    }
    case Expression::Kind::kAnd: {
      Value left = Evaluate(*node.parts[0], scope);
      return left.Truthy() ? Evaluate(*node.parts[1], scope) : left;
    }
    case Expression::Kind::kOr: {
      Value left = Evaluate(*node.parts[0], scope);
      return left.Truthy() ? left : Evaluate(*node.parts[1], scope);
    }
    case Expression::Kind::kArithmetic: {
      const Value left = Evaluate(*node.parts[0], scope), right = Evaluate(*node.parts[1], scope);
      return budget_.ok() ? Arithmetic(node.name, left, right, call) : Value();
    }
    case Expression::Kind::kConcat: {
      Text joined;
      for (const auto& part : node.parts) {
        const Text text = Str(Evaluate(*part, scope), &budget_);
        if (!budget_.Bytes(text.size())) return Value();
        joined.Append(text);
      }
      return Value::String(std::move(joined));
    }
    case Expression::Kind::kCompare:
      return Value::Bool(EvaluateCompare(node, scope));
    case Expression::Kind::kTernary: {
      if (Evaluate(*node.parts[0], scope).Truthy()) return Evaluate(*node.parts[1], scope);
      if (node.parts[2] == nullptr) return Value::Undefined("an expression whose condition does not hold");
      return Evaluate(*node.parts[2], scope);
    }
    case Expression::Kind::kList:
    case Expression::Kind::kTuple:
      return EvaluateList(node, scope);
    case Expression::Kind::kDict:
      return EvaluateDict(node, scope);
  }
  return Value();
}

bool Interpreter::EvaluateCompare(const Expression& node, const ScopePtr& scope) {
  Call call = Empty();
  Value left = Evaluate(*node.parts[0], scope);
  for (size_t i = 0; i < node.operators.size(); ++i) {
    Value right = Evaluate(*node.parts[i + 1], scope);
    if (!budget_.ok() || !Compare(node.operators[i], left, right, call)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::EvaluateList(const Expression& node, const ScopePtr& scope) {
  Call call = Empty();
  List items;
  for (const auto& part : node.parts) items.push_back(Evaluate(*part, scope));
  if (!budget_.ok()) return Value();
  return node.kind == Expression::Kind::kTuple ? call.MakeTuple(std::move(items)) : call.Make(std::move(items));
}

Value Interpreter::EvaluateDict(const Expression& node, const ScopePtr& scope) {
  Call call = Empty();
  Dict dict;
  for (size_t i = 0; i + 1 < node.parts.size(); i += 2) {
    const Value key = Evaluate(*node.parts[i], scope);
    if (!dict.Set(key, Evaluate(*node.parts[i + 1], scope))) {
      return call.Fail(absl::StrCat("a ", key.TypeName(), " cannot be a key"));
    }
  }
  return budget_.ok() ? call.Make(std::move(dict)) : Value();
}

Call Interpreter::Arguments(const Expression& node, const ScopePtr& scope) {
  Call call = Empty();
  for (size_t i = 1; i < node.parts.size(); ++i) call.positional.push_back(Evaluate(*node.parts[i], scope));
  for (const auto& [name, value] : node.named) call.named.emplace_back(name, Evaluate(*value, scope));
  budget_.set_line(node.line);
  return call;
}

Value Interpreter::EvaluateCall(const Expression& node, const ScopePtr& scope, std::pair<std::string, Value>* more) {
  const Value callee = Evaluate(*node.parts[0], scope);
  Call call = Arguments(node, scope);
  if (more != nullptr) call.named.push_back(std::move(*more));
  if (!budget_.ok()) return Value();
  if (!callee.defined()) return call.Fail(absl::StrCat(callee.undefined_name(), " is undefined"));
  if (!callee.Is(Value::Kind::kFunction)) return call.Fail(absl::StrCat("a ", callee.TypeName(), " cannot be called"));
  if (!budget_.Enter()) return Value();
  Value result = callee.function().run(call);
  budget_.Leave();
  return result;
}

Value Interpreter::EvaluateFilter(const Expression& node, const ScopePtr& scope, const Value* block) {
  Value input;
  if (node.parts[0] == nullptr) {
    if (block != nullptr) input = *block;
  } else if (block != nullptr && node.parts[0]->kind == Expression::Kind::kFilter) {
    input = EvaluateFilter(*node.parts[0], scope, block);
  } else {
    input = Evaluate(*node.parts[0], scope);
  }
  Call call = Arguments(node, scope);
  return budget_.ok() ? RunFilter(node.name, input, call) : Value();
}

}  // namespace tandem::chat
