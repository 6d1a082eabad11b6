// The members of every action by name, for format.h. A new member is added here too; the round trip in format_test.cc
// notices one that is missing.
#ifndef TANDEM_SCHEDULER_CORE_ACTION_FIELDS_H_
#define TANDEM_SCHEDULER_CORE_ACTION_FIELDS_H_

#include "scheduler/core/action.h"
#include "scheduler/core/event_fields.h"

namespace tandem::core {

template <>
struct Fields<AdmitWorker> {
  static constexpr const char* kWord = "admit-worker";
  static void Visit(auto&& v) {
    using T = AdmitWorker;
    v("device", &T::device);
    v("incarnation", &T::incarnation);
  }
};
template <>
struct Fields<RefuseWorker> {
  static constexpr const char* kWord = "refuse-worker";
  static void Visit(auto&& v) {
    using T = RefuseWorker;
    v("device_name", &T::device_name);
    v("incarnation", &T::incarnation);
    v("why", &T::why);
  }
};
template <>
struct Fields<FormGroup> {
  static constexpr const char* kWord = "form-group";
  static void Visit(auto&& v) {
    using T = FormGroup;
    v("group", &T::group);
    v("epoch", &T::epoch);
    v("model", &T::model);
    v("members", &T::members);
    v("deadline", &T::deadline);
  }
};
template <>
struct Fields<LoadModel> {
  static constexpr const char* kWord = "load-model";
  static void Visit(auto&& v) {
    using T = LoadModel;
    v("group", &T::group);
    v("epoch", &T::epoch);
    v("model", &T::model);
    v("members", &T::members);
    v("kv_min", &T::kv_min);
    v("kv_target", &T::kv_target);
    v("deadline", &T::deadline);
  }
};
template <>
struct Fields<DissolveGroup> {
  static constexpr const char* kWord = "dissolve-group";
  static void Visit(auto&& v) {
    using T = DissolveGroup;
    v("group", &T::group);
    v("epoch", &T::epoch);
    v("members", &T::members);
  }
};
template <>
struct Fields<AbortGroup> {
  static constexpr const char* kWord = "abort-group";
  static void Visit(auto&& v) {
    using T = AbortGroup;
    v("group", &T::group);
    v("epoch", &T::epoch);
    v("members", &T::members);
    v("why", &T::why);
  }
};
template <>
struct Fields<MeasureLink> {
  static constexpr const char* kWord = "measure-link";
  static void Visit(auto&& v) {
    using T = MeasureLink;
    v("probe", &T::probe);
    v("a", &T::a);
    v("b", &T::b);
    v("deadline", &T::deadline);
  }
};
template <>
struct Fields<DropWorker> {
  static constexpr const char* kWord = "drop-worker";
  static void Visit(auto&& v) {
    using T = DropWorker;
    v("device", &T::device);
    v("incarnation", &T::incarnation);
    v("why", &T::why);
  }
};
template <>
struct Fields<ParkWorker> {
  static constexpr const char* kWord = "park-worker";
  static void Visit(auto&& v) {
    using T = ParkWorker;
    v("device", &T::device);
    v("incarnation", &T::incarnation);
  }
};
template <>
struct Fields<AssignRequest> {
  static constexpr const char* kWord = "assign-request";
  static void Visit(auto&& v) {
    using T = AssignRequest;
    v("request", &T::request);
    v("attempt", &T::attempt);
    v("group", &T::group);
    v("epoch", &T::epoch);
    v("rank0", &T::rank0);
    v("max_tokens", &T::max_tokens);
    v("deadline", &T::deadline);
  }
};
template <>
struct Fields<AbortAttempt> {
  static constexpr const char* kWord = "abort-attempt";
  static void Visit(auto&& v) {
    using T = AbortAttempt;
    v("request", &T::request);
    v("attempt", &T::attempt);
    v("group", &T::group);
    v("epoch", &T::epoch);
    v("rank0", &T::rank0);
    v("why", &T::why);
  }
};
template <>
struct Fields<NoteQueued> {
  static constexpr const char* kWord = "note-queued";
  static void Visit(auto&& v) {
    using T = NoteQueued;
    v("request", &T::request);
    v("why", &T::why);
  }
};
template <>
struct Fields<FailRequest> {
  static constexpr const char* kWord = "fail-request";
  static void Visit(auto&& v) {
    using T = FailRequest;
    v("request", &T::request);
    v("reason", &T::reason);
    v("message", &T::message);
    v("retry_after", &T::retry_after);
  }
};
template <>
struct Fields<CompleteRequest> {
  static constexpr const char* kWord = "complete-request";
  static void Visit(auto&& v) {
    using T = CompleteRequest;
    v("request", &T::request);
    v("output", &T::output);
  }
};
template <>
struct Fields<AskDrain> {
  static constexpr const char* kWord = "ask-drain";
  static void Visit(auto&& v) {
    using T = AskDrain;
    v("device", &T::device);
    v("name", &T::name);
    v("reason", &T::reason);
    v("deadline", &T::deadline);
  }
};
template <>
struct Fields<ReportDrain> {
  static constexpr const char* kWord = "report-drain";
  static void Visit(auto&& v) {
    using T = ReportDrain;
    v("operation", &T::operation);
    v("message", &T::message);
    v("requests_left", &T::requests_left);
    v("deadline_left", &T::deadline_left);
    v("overdue", &T::overdue);
    v("done", &T::done);
    v("refused", &T::refused);
  }
};
template <>
struct Fields<Tell> {
  static constexpr const char* kWord = "tell";
  static void Visit(auto&& v) {
    using T = Tell;
    v("subject", &T::subject);
    v("text", &T::text);
  }
};

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_ACTION_FIELDS_H_
