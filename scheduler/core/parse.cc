#include "scheduler/core/parse.h"

#include <cstddef>
#include <string>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "scheduler/core/event_fields.h"
#include "scheduler/core/text.h"

namespace tandem::core {
namespace {

// Tries the alternatives of Event from the index-th on.
template <size_t index = 0>
absl::StatusOr<Event> Alternative(const TextLine& line) {
  if constexpr (index == std::variant_size_v<Event>) {
    return absl::InvalidArgumentError(absl::StrCat("'", line.word.substr(0, 40), "' is no event"));
  } else {
    using T = std::variant_alternative_t<index, Event>;
    if (line.word != Fields<T>::kWord) return Alternative<index + 1>(line);
    T event{};
    const absl::Status status = GetFields(line.pairs, event);
    if (!status.ok()) return absl::InvalidArgumentError(absl::StrCat(line.word, ": ", status.message()));
    return Event(std::move(event));
  }
}

}  // namespace

absl::StatusOr<Event> ParseEvent(absl::string_view line) {
  const absl::StatusOr<TextLine> parsed = ParseTextLine(line);
  if (!parsed.ok()) return parsed.status();
  return Alternative(*parsed);
}

}  // namespace tandem::core
