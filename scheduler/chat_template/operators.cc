#include "scheduler/chat_template/operators.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "scheduler/chat_template/python_text.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::chat {
namespace {

using Kind = Value::Kind;

Value Wrong(absl::string_view op, const Value& a, const Value& b, Call& call) {
  for (const Value* side : {&a, &b}) {
    if (!side->defined()) return call.Fail(absl::StrCat(side->undefined_name(), " is undefined"));
  }
  return call.Fail(absl::StrCat("'", op, "' is not defined for ", a.TypeName(), " and ", b.TypeName()));
}

std::optional<int64_t> IntPower(int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) return std::nullopt;
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return std::nullopt;
  }
  return result;
}

// Rounds towards minus infinity, as Python does.
int64_t FloorDivide(int64_t a, int64_t b) { return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0); }
double FloorModulo(double a, double b) {
  double rest = std::fmod(a, b);
  if (rest != 0 && (rest < 0) != (b < 0)) rest += b;
  return rest;
}

Value IntArithmetic(absl::string_view op, int64_t a, int64_t b, Call& call) {
  int64_t out = 0;
  bool overflow = false;
  if ((op == "/" || op == "//" || op == "%") && b == 0) return call.Fail("division by zero");
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &out);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &out);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &out);
  } else if (op == "/") {
    return Value::Float(static_cast<double>(a) / static_cast<double>(b));
  } else if (b == -1 && op != "**") {  // the one division that overflows
    overflow = op == "//" && __builtin_sub_overflow(int64_t{0}, a, &out);
  } else if (op == "//") {
    out = FloorDivide(a, b);
  } else if (op == "%") {
    out = a - FloorDivide(a, b) * b;
  } else if (b < 0) {
    if (a == 0) return call.Fail("division by zero");
    return Value::Float(std::pow(static_cast<double>(a), static_cast<double>(b)));
  } else if (const auto power = IntPower(a, b)) {
    out = *power;
  } else {
    overflow = true;
  }
  if (overflow) return call.Fail("a whole number beyond 64 bits");
  return Value::Int(out);
}

Value FloatArithmetic(absl::string_view op, double a, double b, Call& call) {
  if ((op == "/" || op == "//" || op == "%") && b == 0) return call.Fail("division by zero");
  if (op == "+") return Value::Float(a + b);
  if (op == "-") return Value::Float(a - b);
  if (op == "*") return Value::Float(a * b);
  if (op == "/") return Value::Float(a / b);
  if (op == "//") return Value::Float(std::floor(a / b));
  if (op == "%") return Value::Float(FloorModulo(a, b));
  const double power = std::pow(a, b);
  if (std::isnan(power) || std::isinf(power)) return call.Fail("a power that is no number");
  return Value::Float(power);
}

Value Repeat(const Value& what, int64_t times, Call& call) {
  const size_t count = static_cast<size_t>(std::max<int64_t>(times, 0));
  if (what.is_string()) {
    if (count > 0 && what.text().size() > std::numeric_limits<int32_t>::max() / count) {
      call.budget().Bytes(std::numeric_limits<int64_t>::max());
      return Value();
    }
    if (!call.budget().Bytes(what.text().size() * count) || !call.budget().Step(static_cast<int64_t>(count))) {
      return Value();
    }
    Text out;
    for (size_t i = 0; i < count; ++i) out.Append(what.text());
    return Value::String(std::move(out));
  }
  const size_t size = what.items().size();
  if (count > 0 && size > std::numeric_limits<int32_t>::max() / count) {
    call.budget().Bytes(std::numeric_limits<int64_t>::max());
    return Value();
  }
  if (!call.budget().Bytes(size * count * sizeof(Value))) return Value();
  List out;
  for (size_t i = 0; i < count; ++i) out.insert(out.end(), what.items().begin(), what.items().end());
  return what.Is(Kind::kTuple) ? call.MakeTuple(std::move(out)) : call.Make(std::move(out));
}

}  // namespace

Value Arithmetic(absl::string_view op, const Value& a, const Value& b, Call& call) {
  if (a.is_number() && b.is_number()) {
    if (a.Is(Kind::kFloat) || b.Is(Kind::kFloat)) return FloatArithmetic(op, a.AsFloat(), b.AsFloat(), call);
    return IntArithmetic(op, a.AsInt(), b.AsInt(), call);
  }
  if (op == "+" && a.is_string() && b.is_string()) {
    if (!call.budget().Bytes(a.text().size() + b.text().size())) return Value();
    Text joined = a.text();
    joined.Append(b.text());
    return Value::String(std::move(joined));
  }
  if (op == "+" && a.is_sequence() && a.kind() == b.kind()) {
    List joined = a.items();
    joined.insert(joined.end(), b.items().begin(), b.items().end());
    return a.Is(Kind::kTuple) ? call.MakeTuple(std::move(joined)) : call.Make(std::move(joined));
  }
  const auto repeats = [](const Value& what, const Value& times) {
    return (what.is_string() || what.is_sequence()) && (times.Is(Kind::kInt) || times.Is(Kind::kBool));
  };
  if (op == "*" && repeats(a, b)) return Repeat(a, b.AsInt(), call);
  if (op == "*" && repeats(b, a)) return Repeat(b, a.AsInt(), call);
  if (op == "%" && a.is_string()) return call.Fail("formatting a string with % is not supported");
  return Wrong(op, a, b, call);
}

bool Contains(const Value& in, const Value& what, Call& call) {
  switch (in.kind()) {
    case Kind::kUndefined:
      return false;
    case Kind::kString:
      if (!what.is_string()) return Wrong("in", what, in, call).Truthy();
      call.budget().Step(static_cast<int64_t>(in.text().size() / 64));
      return in.bytes().find(what.bytes()) != std::string::npos;
    case Kind::kList:
    case Kind::kTuple:
      call.budget().Step(static_cast<int64_t>(in.items().size()));
      return std::any_of(in.items().begin(), in.items().end(), [&](const Value& item) { return Equal(item, what); });
    case Kind::kDict:
      if (what.is_sequence() || what.Is(Kind::kDict)) {
        return call.Fail(absl::StrCat("a ", what.TypeName(), " cannot be a key")).Truthy();
      }
      return in.dict().Find(what) != nullptr;
    default:
      return Wrong("in", what, in, call).Truthy();
  }
}

bool Compare(absl::string_view op, const Value& a, const Value& b, Call& call) {
  if (op == "==") return Equal(a, b);
  if (op == "!=") return !Equal(a, b);
  if (op == "in") return Contains(b, a, call);
  if (op == "not in") return !Contains(b, a, call);
  const bool swaps = op == ">" || op == "<=";
  const auto less = swaps ? Less(b, a) : Less(a, b);
  if (!less) return Wrong(op, a, b, call).Truthy();
  const bool has_nan = (a.is_number() && std::isnan(a.AsFloat())) || (b.is_number() && std::isnan(b.AsFloat()));
  if (has_nan) return false;
  return (op == "<" || op == ">") ? *less : !*less;
}

Value Negate(const Value& value, Call& call) {
  if (value.Is(Kind::kFloat)) return Value::Float(-value.AsFloat());
  if (value.is_number()) return IntArithmetic("-", 0, value.AsInt(), call);
  if (!value.defined()) return call.Fail(absl::StrCat(value.undefined_name(), " is undefined"));
  return call.Fail(absl::StrCat("'-' is not defined for ", value.TypeName()));
}

Value Slice(const Value& of, const Value& first, const Value& last, const Value& step, Call& call) {
  if (!of.defined()) return call.Fail(absl::StrCat(of.undefined_name(), " is undefined"));
  if (!of.is_string() && !of.is_sequence()) return call.Fail(absl::StrCat("a ", of.TypeName(), " has no slices"));
  const auto bound = [&](const Value& value, int64_t fallback) {
    if (!value.defined() || value.Is(Kind::kNone)) return fallback;
    if (value.Is(Kind::kInt) || value.Is(Kind::kBool)) return value.AsInt();
    call.Fail("the bounds of a slice are whole numbers");
    return fallback;
  };
  const int64_t stride = bound(step, 1);
  if (stride == 0) return call.Fail("the step of a slice is 0");
  const auto size = static_cast<int64_t>(of.is_string() ? CountChars(of.bytes()) : of.items().size());
  // Python's clamping: a negative index counts from the end, and nothing reaches beyond the ends.
  const auto clamp = [&](int64_t at) {
    if (at < 0) at = std::max<int64_t>(at + size, stride < 0 ? -1 : 0);
    return std::min(at, stride < 0 ? size - 1 : size);
  };
  const bool backward = stride < 0;
  const bool has_first = first.defined() && !first.Is(Kind::kNone), has_last = last.defined() && !last.Is(Kind::kNone);
  const int64_t from = has_first ? clamp(bound(first, 0)) : backward ? size - 1 : 0;
  const int64_t to = has_last ? clamp(bound(last, 0)) : backward ? -1 : size;
  if (!call.budget().Step(size / 16 + 1)) return Value();
  if (of.is_string() && stride == 1) {
    if (from >= to) return Value::Own("");
    const size_t begin = OffsetOf(of.bytes(), static_cast<size_t>(from));
    const size_t length = OffsetOf(absl::string_view(of.bytes()).substr(begin), static_cast<size_t>(to - from));
    return call.Make(of.text().Slice(begin, begin + length));
  }
  if (of.is_string()) {
    const List chars = call.Iterate(of);
    Text out;
    if (!call.budget().ok()) return Value();
    for (int64_t at = from; backward ? at > to : at < to; at += stride) {
      out.Append(chars[static_cast<size_t>(at)].text());
      if ((backward ? at - to : to - at) <= std::abs(stride)) break;  // the next would be beyond, or overflow
    }
    return call.Make(std::move(out));
  }
  List out;
  for (int64_t at = from; backward ? at > to : at < to; at += stride) {
    out.push_back(of.items()[static_cast<size_t>(at)]);
    if ((backward ? at - to : to - at) <= std::abs(stride)) break;
  }
  return of.Is(Kind::kTuple) ? call.MakeTuple(std::move(out)) : call.Make(std::move(out));
}

}  // namespace tandem::chat
