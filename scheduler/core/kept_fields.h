// The members of what outlives a run (kept.h), by name. Part of event_fields.h.
#ifndef TANDEM_SCHEDULER_CORE_KEPT_FIELDS_H_
#define TANDEM_SCHEDULER_CORE_KEPT_FIELDS_H_

#include "scheduler/core/action.h"
#include "scheduler/core/event.h"
#include "scheduler/core/text.h"

namespace tandem::core {

template <>
struct EnumWords<DrainOutcome> {
  static constexpr const char* kWords[] = {"running", "done", "undone", "refused"};
};
template <>
struct Fields<KnownDevice> {
  static void Visit(auto&& v) {
    using T = KnownDevice;
    v("node", &T::node);
    v("index", &T::index);
    v("kind", &T::kind);
    v("model", &T::model);
    v("uuid", &T::uuid);
    v("memory_budget", &T::memory_budget);
    v("cordoned", &T::cordoned);
    v("drained", &T::drained);
    v("quarantined", &T::quarantined);
    v("reason", &T::reason);
    v("wished_since", &T::wished_since);
  }
};
template <>
struct Fields<KnownDrain> {
  static void Visit(auto&& v) {
    using T = KnownDrain;
    v("operation", &T::operation);
    v("devices", &T::devices);
    v("group", &T::group);
    v("reason", &T::reason);
    v("left", &T::left);
    v("on_deadline", &T::on_deadline);
    v("force", &T::force);
    v("requests_at_start", &T::requests_at_start);
  }
};
template <>
struct Fields<KeepDevice> {
  static constexpr const char* kWord = "keep-device";
  static void Visit(auto&& v) { v("device", &KeepDevice::device); }
};
template <>
struct Fields<ForgetDevice> {
  static constexpr const char* kWord = "forget-device";
  static void Visit(auto&& v) { v("name", &ForgetDevice::name); }
};
template <>
struct Fields<KeepDrain> {
  static constexpr const char* kWord = "keep-drain";
  static void Visit(auto&& v) {
    using T = KeepDrain;
    v("operation", &T::operation);
    v("outcome", &T::outcome);
    v("devices", &T::devices);
    v("requests_at_start", &T::requests_at_start);
    v("refused", &T::refused);
    v("message", &T::message);
  }
};

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_KEPT_FIELDS_H_
