#include <algorithm>
#include <ctime>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/chat_template/builtins.h"
#include "scheduler/chat_template/namespace.h"
#include "scheduler/chat_template/print.h"

namespace tandem::chat {
namespace {

using Function = Value (*)(Call& call);

constexpr int64_t kLongestRange = 100'000;  // jinja2's own, in its sandbox

Value RunRange(Call& call) {
  call.Accept("range", {"start", "stop?", "step?"});
  const int64_t first = call.Has(1) ? call.Int(0, 0) : 0;
  const int64_t last = call.Has(1) ? call.Int(1, 0) : call.Int(0, 0);
  const int64_t step = call.Int(2, 1);
  if (step == 0) return call.Fail("the step of a range is 0");
  // In 128 bits nothing overflows.
  const __int128 distance = step > 0 ? static_cast<__int128>(last) - first : static_cast<__int128>(first) - last;
  const __int128 stride = step > 0 ? static_cast<__int128>(step) : -static_cast<__int128>(step);
  const __int128 count = distance <= 0 ? 0 : (distance + stride - 1) / stride;
  if (count > kLongestRange) return call.Fail(absl::StrCat("a range of more than ", kLongestRange, " numbers"));
  List items;
  if (!call.budget().Step(static_cast<int64_t>(count))) return Value();
  for (__int128 i = 0; i < count; ++i) items.push_back(Value::Int(static_cast<int64_t>(first + i * step)));
  return call.Make(std::move(items));
}

// The mapping of dict() and namespace(): one mapping, then the named arguments.
Dict Entries(absl::string_view callee, Call& call) {
  Dict dict;
  if (call.positional.size() > 1) call.Fail(absl::StrCat(callee, " takes one mapping"));
  for (const Value& from : call.positional) {
    if (from.Is(Value::Kind::kDict)) {
      dict = from.dict();
      continue;
    }
    for (const Value& pair : call.Iterate(from)) {
      if (!pair.is_sequence() || pair.items().size() != 2 || !dict.Set(pair.items()[0], pair.items()[1])) {
        call.Fail(absl::StrCat(callee, " takes a mapping or pairs"));
        break;
      }
    }
  }
  for (auto& [name, value] : call.named) dict.Set(Value::Own(name), value);
  return dict;
}

Value RunDict(Call& call) { return call.Make(Entries("dict", call)); }

Value RunNamespace(Call& call) {
  const Dict entries = Entries("namespace", call);
  auto object = std::make_shared<Namespace>();
  for (const auto& [name, value] : entries.entries()) {
    if (!name.is_string() || !object->Set(name.bytes(), value)) {
      return call.Fail("a namespace holds data under names that do not begin with '_'");
    }
  }
  return Value::MakeObject(std::move(object));
}

Value RunRaise(Call& call) {
  call.Accept("raise_exception", {"message"});
  const Text message = Str(call.Get(0), &call.budget());
  call.budget().Refuse(message.OwnOnly().substr(0, 512));
  return Value();
}

Value RunStrftime(Call& call) {
  call.Accept("strftime_now", {"format"});
  const Text format = call.String(0);
  if (format.size() > 128) return call.Fail("strftime_now with a format of more than 128 bytes");
  const time_t seconds = absl::ToTimeT(call.now());
  tm local{};
  localtime_r(&seconds, &local);
  char buffer[1024];
  const size_t size = strftime(buffer, sizeof(buffer), format.bytes().c_str(), &local);
  return call.Make(format.Derived(std::string(buffer, size)));
}

struct Entry {
  absl::string_view name;
  Function run;
};
constexpr Entry kFunctions[] = {{"range", RunRange},
                                {"dict", RunDict},
                                {"namespace", RunNamespace},
                                {"raise_exception", RunRaise},
                                {"strftime_now", RunStrftime}};
constexpr absl::string_view kRefused[] = {"cycler", "joiner", "lipsum"};

}  // namespace

bool IsRefusedFunction(absl::string_view name) {
  return std::find(std::begin(kRefused), std::end(kRefused), name) != std::end(kRefused);
}

std::optional<Value> FindFunction(absl::string_view name) {
  for (const Entry& entry : kFunctions) {
    if (entry.name == name) return Value::MakeFunction(std::string(name), entry.run);
  }
  return std::nullopt;
}

}  // namespace tandem::chat
