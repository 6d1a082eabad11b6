// The written form of the core's data: `key=value` pairs, lists in [ ], nested pairs in { }, strings bare where they
// are plain and quoted where not. Made for journals and scenarios: read by people, parsed back without loss.
//
//   request-arrived request=00..07 model=chat prompt=100 max_tokens=50
//   worker-attached device={node=box index=1 memory_total=8589934592} incarnation=00..09
//
// What types look like: d3 a device, m0 a model, g1.4 a group (leader epoch, counter), 1.4 an epoch or attempt, 32 hex
// digits a request or incarnation, op2 an operation; times in microseconds, sizes in bytes. A member that has its
// default value is left out.
#ifndef TANDEM_SCHEDULER_CORE_TEXT_H_
#define TANDEM_SCHEDULER_CORE_TEXT_H_

#include <array>
#include <concepts>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "scheduler/core/types.h"

namespace tandem::core {

// A parsed value: a scalar, a list, or pairs.
struct TextValue {
  enum class Kind { kScalar, kList, kPairs };
  Kind kind = Kind::kScalar;
  std::string scalar;
  std::vector<TextValue> items;
  std::map<std::string, TextValue> pairs;
};

// "word key=value ...". Refuses, with the column, what it cannot read; nesting is limited.
struct TextLine {
  std::string word;
  TextValue pairs;
};
absl::StatusOr<TextLine> ParseTextLine(absl::string_view line);

// The words of an enum in the order of its values: static constexpr const char* kWords[]. Specialised beside its users.
template <typename Enum>
struct EnumWords;

// The members of a struct: static void Visit(auto&& v) calls v("name", &T::name) for each. One list serves writing and
// reading, so they cannot drift apart. Specialised in event_fields.h and state_fields.h.
template <typename T>
struct Fields;
template <typename T>
concept HasFields = requires {
  sizeof(Fields<T>);
};

template <typename T>
struct IsVector : std::false_type {};
template <typename T>
struct IsVector<std::vector<T>> : std::true_type {};
template <typename T, size_t N>
struct IsVector<absl::InlinedVector<T, N>> : std::true_type {};
template <typename T>
struct IsOptional : std::false_type {};
template <typename T>
struct IsOptional<std::optional<T>> : std::true_type {};

void PutScalar(std::string& out, const std::string& text);
void PutScalar(std::string& out, bool value);
void PutScalar(std::string& out, double value);
void PutScalar(std::string& out, int64_t value);
void PutScalar(std::string& out, uint64_t value);
void PutScalar(std::string& out, DeviceId id);
void PutScalar(std::string& out, ModelId id);
void PutScalar(std::string& out, GroupId id);
void PutScalar(std::string& out, RequestId id);
void PutScalar(std::string& out, Incarnation id);
void PutScalar(std::string& out, OperationId id);
void PutScalar(std::string& out, GroupEpoch epoch);
void PutScalar(std::string& out, Attempt attempt);
void PutScalar(std::string& out, Bytes value);
void PutScalar(std::string& out, Tokens value);
void PutScalar(std::string& out, Duration value);
void PutScalar(std::string& out, Instant value);
void PutScalar(std::string& out, const std::array<uint8_t, 16>& hash);

// False: not of that form, or out of range.
bool GetScalar(const std::string& text, std::string& value);
bool GetScalar(const std::string& text, bool& value);
bool GetScalar(const std::string& text, double& value);
bool GetScalar(const std::string& text, int64_t& value);
bool GetScalar(const std::string& text, uint64_t& value);
bool GetScalar(const std::string& text, DeviceId& id);
bool GetScalar(const std::string& text, ModelId& id);
bool GetScalar(const std::string& text, GroupId& id);
bool GetScalar(const std::string& text, RequestId& id);
bool GetScalar(const std::string& text, Incarnation& id);
bool GetScalar(const std::string& text, OperationId& id);
bool GetScalar(const std::string& text, GroupEpoch& epoch);
bool GetScalar(const std::string& text, Attempt& attempt);
bool GetScalar(const std::string& text, Bytes& value);
bool GetScalar(const std::string& text, Tokens& value);
bool GetScalar(const std::string& text, Duration& value);
bool GetScalar(const std::string& text, Instant& value);
bool GetScalar(const std::string& text, std::array<uint8_t, 16>& hash);

template <typename T>
void PutFields(std::string& out, const T& object);

template <typename T>
void Put(std::string& out, const T& value) {
  if constexpr (IsVector<T>::value) {
    out += '[';
    for (const auto& item : value) {
      if (out.back() != '[') out += ' ';
      Put(out, item);
    }
    out += ']';
  } else if constexpr (IsOptional<T>::value) {
    Put(out, *value);
  } else if constexpr (HasFields<T>) {
    out += '{';
    PutFields(out, value);
    out += '}';
  } else if constexpr (std::is_enum_v<T>) {
    out += EnumWords<T>::kWords[static_cast<size_t>(value)];
  } else if constexpr (std::same_as<T, bool> || !std::integral<T>) {
    PutScalar(out, value);
  } else if constexpr (std::signed_integral<T>) {
    PutScalar(out, static_cast<int64_t>(value));
  } else {
    PutScalar(out, static_cast<uint64_t>(value));
  }
}

// Left out of the text: reading it back gives the same.
template <typename T>
bool IsDefault(const T& value, const T& standard) {
  if constexpr (IsVector<T>::value) {
    return value.empty();
  } else if constexpr (IsOptional<T>::value) {
    return !value.has_value();
  } else if constexpr (std::same_as<T, DeviceId> || std::same_as<T, ModelId>) {
    return false;  // 0 is an id like any other
  } else if constexpr (HasFields<T>) {
    std::string text;
    PutFields(text, value);
    return text.empty();
  } else {
    return value == standard;
  }
}

// " key=value" for each member that is not at its default; the first without the space when `out` ends in { or nothing.
template <typename T>
void PutFields(std::string& out, const T& object) {
  [[maybe_unused]] static const T standard{};
  Fields<T>::Visit([&](const char* name, auto member) {
    if (IsDefault(object.*member, standard.*member)) return;
    if (!out.empty() && out.back() != '{') out += ' ';
    out += name;
    out += '=';
    Put(out, object.*member);
  });
}

template <typename T>
absl::Status GetFields(const TextValue& text, T& object);

template <typename T>
absl::Status Get(const TextValue& text, T& value) {
  if constexpr (IsVector<T>::value) {
    if (text.kind != TextValue::Kind::kList) return absl::InvalidArgumentError("a list in [ ] is wanted");
    value.clear();
    for (const TextValue& item : text.items) {
      typename T::value_type element{};
      if (absl::Status status = Get(item, element); !status.ok()) return status;
      value.push_back(std::move(element));
    }
    return absl::OkStatus();
  } else if constexpr (IsOptional<T>::value) {
    return Get(text, value.emplace());
  } else if constexpr (HasFields<T>) {
    if (text.kind != TextValue::Kind::kPairs) return absl::InvalidArgumentError("pairs in { } are wanted");
    return GetFields(text, value);
  } else {
    bool good = false;
    if (text.kind != TextValue::Kind::kScalar) return absl::InvalidArgumentError("a single value is wanted");
    if constexpr (std::is_enum_v<T>) {
      size_t index = 0;
      for (const char* word : EnumWords<T>::kWords) {
        if (text.scalar == word) value = static_cast<T>(index), good = true;
        ++index;
      }
    } else if constexpr (std::same_as<T, bool> || !std::integral<T>) {
      good = GetScalar(text.scalar, value);
    } else {
      std::conditional_t<std::signed_integral<T>, int64_t, uint64_t> wide = 0;
      good = GetScalar(text.scalar, wide) && std::in_range<T>(wide);
      value = static_cast<T>(wide);
    }
    if (!good) return absl::InvalidArgumentError(absl::StrCat("'", text.scalar.substr(0, 40), "' is not of its type"));
    return absl::OkStatus();
  }
}

template <typename T>
absl::Status GetFields(const TextValue& text, T& object) {
  absl::Status status;
  size_t used = 0;
  Fields<T>::Visit([&](const char* name, auto member) {
    const auto it = text.pairs.find(name);
    if (it == text.pairs.end()) return;
    ++used;
    const absl::Status one = Get(it->second, object.*member);
    if (!one.ok() && status.ok()) status = absl::InvalidArgumentError(absl::StrCat(name, ": ", one.message()));
  });
  if (!status.ok() || used == text.pairs.size()) return status;
  std::set<std::string> known;
  Fields<T>::Visit([&](const char* name, auto) { known.insert(name); });
  for (const auto& [name, value] : text.pairs) {
    if (!known.contains(name)) return absl::InvalidArgumentError(absl::StrCat("there is no '", name, "' here"));
  }
  return status;
}

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_TEXT_H_
