#include "scheduler/core/format.h"

#include <variant>

#include "scheduler/core/action_fields.h"
#include "scheduler/core/event_fields.h"
#include "scheduler/core/text.h"

namespace tandem::core {
namespace {

template <typename T>
std::string Line(const T& thing) {
  std::string line = Fields<T>::kWord;
  PutFields(line, thing);
  return line;
}

}  // namespace

std::string Format(const Event& event) {
  return std::visit([](const auto& e) { return Line(e); }, event);
}
std::string Format(const Action& action) {
  return std::visit([](const auto& a) { return Line(a); }, action);
}

}  // namespace tandem::core
