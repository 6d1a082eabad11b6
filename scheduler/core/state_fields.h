// The members of the state by name, for dump.h. What can be rebuilt (indexes, queues, timers) is not here.
#ifndef TANDEM_SCHEDULER_CORE_STATE_FIELDS_H_
#define TANDEM_SCHEDULER_CORE_STATE_FIELDS_H_

#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event_fields.h"
#include "scheduler/core/text.h"

namespace tandem::core {

template <>
struct EnumWords<DeviceState> {
  static constexpr const char* kWords[] = {"starting", "active", "draining", "drained", "failed", "lost"};
};
template <>
struct EnumWords<HealthAction> {
  static constexpr const char* kWords[] = {"none",   "log",        "slow",  "distrust-links",
                                           "cordon", "quarantine", "drain", "fence"};
};
template <>
struct EnumWords<GroupState> {
  static constexpr const char* kWords[] = {"forming", "loading", "ready", "draining", "dissolved"};
};
template <>
struct EnumWords<RequestState> {
  static constexpr const char* kWords[] = {"queued",   "assigned", "running",  "migrating",
                                           "finished", "failed",   "cancelled"};
};
template <>
struct EnumWords<Ending> {
  static constexpr const char* kWords[] = {"no", "dissolving", "aborting"};
};
template <>
struct EnumWords<Verdict> {
  static constexpr const char* kWords[] = {"not-tried", "placed", "later", "draining", "never"};
};
template <>
struct EnumWords<Obstacle> {
  static constexpr const char* kWords[] = {"too-small", "lost", "suspect",     "draining",
                                           "cordoned",  "busy", "memory-taken"};
};
template <>
struct EnumWords<MomentKind> {
  static constexpr const char* kWords[] = {"arrived",   "queued",    "assigned", "started",  "preempted",
                                           "requeued",  "stopped",   "aborting", "finished", "failed",
                                           "cancelled", "migrating", "found",    "cached"};
};

template <>
struct EnumWords<LinkProbing> {
  static constexpr const char* kWords[] = {"off", "once", "periodic"};
};

template <>
struct Fields<HealthRule> {
  static void Visit(auto&& v) {
    using T = HealthRule;
    v("code", &T::code);
    v("action", &T::action);
    v("cool_off", &T::cool_off);
    v("times_slower", &T::times_slower);
    v("because", &T::because);
  }
};
template <>
struct Fields<Ailment> {
  static void Visit(auto&& v) {
    using T = Ailment;
    v("code", &T::code);
    v("message", &T::message);
    v("action", &T::action);
    v("times_slower", &T::times_slower);
    v("since", &T::since);
    v("until", &T::until);
  }
};
template <>
struct Fields<HealthCount> {
  static void Visit(auto&& v) {
    v("code", &HealthCount::code);
    v("reports", &HealthCount::reports);
  }
};
template <>
struct Fields<CoreOptions> {
  static void Visit(auto&& v) {
    using T = CoreOptions;
    v("suspect_after", &T::suspect_after);
    v("fence_after", &T::fence_after);
    v("detach_grace", &T::detach_grace);
    v("stuck_after", &T::stuck_after);
    v("reattach_window", &T::reattach_window);
    v("form_deadline", &T::form_deadline);
    v("load_deadline", &T::load_deadline);
    v("leave_deadline", &T::leave_deadline);
    v("retry_first", &T::retry_first);
    v("retry_most", &T::retry_most);
    v("drain_deadline", &T::drain_deadline);
    v("waiting_room_requests", &T::waiting_room_requests);
    v("waiting_room_tokens", &T::waiting_room_tokens);
    v("waiting_room_bytes", &T::waiting_room_bytes);
    v("class_room_percent", &T::class_room_percent);
    v("tenant_room_percent", &T::tenant_room_percent);
    v("retry_hint", &T::retry_hint);
    v("retry_hint_least", &T::retry_hint_least);
    v("retry_hint_most", &T::retry_hint_most);
    v("look_ahead", &T::look_ahead);
    v("most_overtaken", &T::most_overtaken);
    v("most_attempts", &T::most_attempts);
    v("most_migrations", &T::most_migrations);
    v("most_groups_lost", &T::most_groups_lost);
    v("prefix_entries", &T::prefix_entries);
    v("cached_worth", &T::cached_worth);
    v("pending_worth", &T::pending_worth);
    v("cache_wait_factor", &T::cache_wait_factor);
    v("cache_wait_most", &T::cache_wait_most);
    v("engine_queue", &T::engine_queue);
    v("overcommit", &T::overcommit);
    v("default_output", &T::default_output);
    v("quarantine_after", &T::quarantine_after);
    v("quarantine_window", &T::quarantine_window);
    v("quarantine_first", &T::quarantine_first);
    v("quarantine_most", &T::quarantine_most);
    v("quarantine_percent", &T::quarantine_percent);
    v("health", &T::health);
    v("remembered", &T::remembered);
    v("remembered_groups", &T::remembered_groups);
    v("link_probe", &T::link_probe);
    v("sharing", &T::sharing);
    v("probe_pause", &T::probe_pause);
    v("probe_deadline", &T::probe_deadline);
    v("gpu_probe_deadline", &T::gpu_probe_deadline);
    v("probe_again", &T::probe_again);
    v("pool_period", &T::pool_period);
    v("pool_up_after", &T::pool_up_after);
    v("pool_down_after", &T::pool_down_after);
    v("pool_hold", &T::pool_hold);
    v("move_gain_permille", &T::move_gain_permille);
    v("move_calm", &T::move_calm);
    v("move_rest", &T::move_rest);
    v("move_rest_most", &T::move_rest_most);
  }
};
template <>
struct Fields<Loser> {
  static void Visit(auto&& v) {
    using T = Loser;
    v("device", &T::device);
    v("obstacle", &T::obstacle);
    v("text", &T::text);
  }
};
template <>
struct Fields<PlacementReport> {
  static void Visit(auto&& v) {
    using T = PlacementReport;
    v("verdict", &T::verdict);
    v("at", &T::at);
    v("sentence", &T::sentence);
    v("tensor_parallel", &T::tensor_parallel);
    v("static_bytes", &T::static_bytes);
    v("kv_min", &T::kv_min);
    v("kv_target", &T::kv_target);
    v("chosen", &T::chosen);
    v("considered", &T::considered);
    v("counts", &T::counts);
    v("losers", &T::losers);
    v("degrees", &T::degrees);
  }
};
template <>
struct Fields<Leftover> {
  static void Visit(auto&& v) {
    using T = Leftover;
    v("group", &T::group);
    v("epoch", &T::epoch);
  }
};
template <>
struct Fields<Device> {
  static void Visit(auto&& v) {
    using T = Device;
    v("id", &T::id);
    v("spec", &T::spec);
    v("incarnation", &T::incarnation);
    v("state", &T::state);
    v("attached", &T::attached);
    v("suspect", &T::suspect);
    v("parked", &T::parked);
    v("parking", &T::parking);
    v("cordoned", &T::cordoned);
    v("drain_wanted", &T::drain_wanted);
    v("recalled", &T::recalled);
    v("uncounted", &T::uncounted);
    v("idle_load", &T::idle_load);
    v("reason", &T::reason);
    v("failures", &T::failures);
    v("quarantines", &T::quarantines);
    v("quarantined_at", &T::quarantined_at);
    v("quarantined_until", &T::quarantined_until);
    v("times_slower", &T::times_slower);
    v("ailments", &T::ailments);
    v("ailing_until", &T::ailing_until);
    v("kept", &T::kept);
    v("last_heard", &T::last_heard);
    v("detached_at", &T::detached_at);
    v("memory_free", &T::memory_free);
    v("memory_process", &T::memory_process);
    v("groups", &T::groups);
    v("leftovers", &T::leftovers);
    v("claims", &T::claims);
    v("leave_deadline", &T::leave_deadline);
    v("timer", &T::timer);
  }
};
template <>
struct Fields<Member> {
  static void Visit(auto&& v) {
    using T = Member;
    v("device", &T::device);
    v("formed", &T::formed);
    v("loaded", &T::loaded);
    v("out", &T::out);
    v("counted", &T::counted);
    v("estimated", &T::estimated);
    v("planned", &T::planned);
    v("measured", &T::measured);
    v("held_before", &T::held_before);
    v("progress", &T::progress);
    v("progress_at", &T::progress_at);
    v("moved_at", &T::moved_at);
    v("longest", &T::longest);
  }
};
template <>
struct Fields<KvAccount> {
  static void Visit(auto&& v) {
    using T = KvAccount;
    v("capacity", &T::capacity);
    v("limit", &T::limit);
    v("booked", &T::booked);
    v("booked_started", &T::booked_started);
    v("correction", &T::correction);
    v("pending", &T::pending);
    v("shared", &T::shared);
  }
};
template <>
struct Fields<Group> {
  static void Visit(auto&& v) {
    using T = Group;
    v("id", &T::id);
    v("epoch", &T::epoch);
    v("model", &T::model);
    v("state", &T::state);
    v("ending", &T::ending);
    v("members", &T::members);
    v("why", &T::why);
    v("reason", &T::reason);
    v("end_reason", &T::end_reason);
    v("retiring", &T::retiring);
    v("leaving", &T::leaving);
    v("outdated", &T::outdated);
    v("successor", &T::successor);
    v("deployment", &T::deployment);
    v("adopted", &T::adopted);
    v("kv_min", &T::kv_min);
    v("kv_target", &T::kv_target);
    v("kv_bytes", &T::kv_bytes);
    v("kv_blocks", &T::kv_blocks);
    v("block_tokens", &T::block_tokens);
    v("max_sequences", &T::max_sequences);
    v("max_model_len", &T::max_model_len);
    v("numerics_id", &T::numerics_id);
    v("kv", &T::kv);
    v("free_blocks", &T::free_blocks);
    v("running", &T::running);
    v("waiting", &T::waiting);
    v("steps", &T::steps);
    v("preemptions", &T::preemptions);
    v("steps_at", &T::steps_at);
    v("step_us", &T::step_us);
    v("step_tokens", &T::step_tokens);
    v("slowness", &T::slowness);
    v("slow_looks", &T::slow_looks);
    v("steps_compared", &T::steps_compared);
    v("created", &T::created);
    v("ready_at", &T::ready_at);
    v("ended_at", &T::ended_at);
    v("deadline", &T::deadline);
  }
};
template <>
struct Fields<LearnedMemory> {
  static void Visit(auto&& v) {
    using T = LearnedMemory;
    v("tensor_parallel", &T::tensor_parallel);
    v("kind", &T::kind);
    v("group", &T::group);
    v("estimated", &T::estimated);
    v("measured", &T::measured);
  }
};
template <>
struct Fields<Pool> {
  static void Visit(auto&& v) {
    using T = Pool;
    v("wanted", &T::wanted);
    v("quiet_since", &T::quiet_since);
    v("held_until", &T::held_until);
  }
};
template <>
struct Fields<Pace> {
  static void Visit(auto&& v) {
    using T = Pace;
    v("busy_since", &T::busy_since);
    v("busy", &T::busy);
    v("released", &T::released);
    v("releases", &T::releases);
  }
};
template <>
struct Fields<Model> {
  static void Visit(auto&& v) {
    using T = Model;
    v("id", &T::id);
    v("spec", &T::spec);
    v("groups", &T::groups);
    v("learned", &T::learned);
    v("report", &T::report);
    v("waits_for", &T::waits_for);
    v("refused", &T::refused);
    v("refused_why", &T::refused_why);
    v("undeployed", &T::undeployed);
    v("blocked", &T::blocked);
    v("back_off", &T::back_off);
    v("retry_at", &T::retry_at);
    v("pool", &T::pool);
    v("pace", &T::pace);
    v("next_compare", &T::next_compare);
    v("least_step_us", &T::least_step_us);
    v("token_ns", &T::token_ns);
    v("release_at", &T::release_at);
    v("next_move", &T::next_move);
    v("move_rest", &T::move_rest);
    v("move_note", &T::move_note);
  }
};
template <>
struct Fields<Moment> {
  static void Visit(auto&& v) {
    using T = Moment;
    v("at", &T::at);
    v("kind", &T::kind);
    v("group", &T::group);
    v("number", &T::number);
  }
};
template <>
struct Fields<Request> {
  static void Visit(auto&& v) {
    using T = Request;
    v("id", &T::id);
    v("serial", &T::serial);
    v("model", &T::model);
    v("prompt", &T::prompt);
    v("known_output", &T::known_output);
    v("output", &T::output);
    v("max_tokens", &T::max_tokens);
    v("priority", &T::priority);
    v("tenant", &T::tenant);
    v("prefix", &T::prefix);
    v("bytes", &T::bytes);
    v("caller_id", &T::caller_id);
    v("trace_id", &T::trace_id);
    v("state", &T::state);
    v("attempt", &T::attempt);
    v("group", &T::group);
    v("booked", &T::booked);
    v("fresh", &T::fresh);
    v("awaits_group", &T::awaits_group);
    v("started", &T::started);
    v("computed", &T::computed);
    v("aborting", &T::aborting);
    v("stopped", &T::stopped);
    v("told", &T::told);
    v("charged", &T::charged);
    v("home", &T::home);
    v("overtaken", &T::overtaken);
    v("preemptions", &T::preemptions);
    v("began", &T::began);
    v("numerics_id", &T::numerics_id);
    v("moved_why", &T::moved_why);
    v("migrations", &T::migrations);
    v("groups_lost", &T::groups_lost);
    v("faults", &T::faults);
    v("refusals", &T::refusals);
    v("faulted_on", &T::faulted_on);
    v("arrived", &T::arrived);
    v("deadline", &T::deadline);
    v("ended_at", &T::ended_at);
    v("waits_since", &T::waits_since);
    v("outcome", &T::outcome);
    v("outcome_text", &T::outcome_text);
    v("waits_for", &T::waits_for);
    v("history", &T::history);
  }
};
template <>
struct Fields<Drain> {
  static void Visit(auto&& v) {
    using T = Drain;
    v("id", &T::id);
    v("devices", &T::devices);
    v("groups", &T::groups);
    v("reason", &T::reason);
    v("deadline", &T::deadline);
    v("on_deadline", &T::on_deadline);
    v("force", &T::force);
    v("past_deadline", &T::past_deadline);
    v("requests_at_start", &T::requests_at_start);
    v("requests_left", &T::requests_left);
    v("said", &T::said);
    v("next_report", &T::next_report);
  }
};
template <>
struct Fields<LinkRecord> {
  static void Visit(auto&& v) {
    using T = LinkRecord;
    v("a", &T::a);
    v("b", &T::b);
    v("small_ns", &T::small_ns);
    v("bytes_per_second", &T::bytes_per_second);
    v("measured_at", &T::measured_at);
    v("due", &T::due);
    v("back_off", &T::back_off);
    v("why_not", &T::why_not);
  }
};
template <>
struct Fields<LinkProbe> {
  static void Visit(auto&& v) {
    using T = LinkProbe;
    v("id", &T::id);
    v("a", &T::a);
    v("b", &T::b);
    v("deadline", &T::deadline);
  }
};
template <>
struct Fields<Move> {
  static void Visit(auto&& v) {
    using T = Move;
    v("from", &T::from);
    v("to", &T::to);
    v("before_us", &T::before_us);
    v("after_us", &T::after_us);
  }
};
template <>
struct Fields<Counters> {
  static void Visit(auto&& v) {
    using T = Counters;
    v("finished", &T::finished);
    v("failed", &T::failed);
    v("cancelled", &T::cancelled);
    v("refused", &T::refused);
    v("stale_groups", &T::stale_groups);
    v("stale_attempts", &T::stale_attempts);
    v("homes_reached", &T::homes_reached);
    v("homes_given_up", &T::homes_given_up);
    v("homes_left", &T::homes_left);
    v("prefixes_dropped", &T::prefixes_dropped);
    v("stale_workers", &T::stale_workers);
    v("lost_left", &T::lost_left);
    v("lost_stream", &T::lost_stream);
    v("lost_frozen", &T::lost_frozen);
    v("lost_replaced", &T::lost_replaced);
    v("lost_disobeyed", &T::lost_disobeyed);
    v("aborted_client_left", &T::aborted_client_left);
    v("aborted_client_asked", &T::aborted_client_asked);
    v("aborted_admin", &T::aborted_admin);
    v("spoiled", &T::spoiled);
    v("requeued", &T::requeued);
    v("migrated", &T::migrated);
    v("communicator_errors", &T::communicator_errors);
    v("health", &T::health);
  }
};
template <>
struct Fields<ClusterState> {
  static void Visit(auto&& v) {
    using T = ClusterState;
    v("now", &T::now);
    v("leader_epoch", &T::leader_epoch);
    v("last_group", &T::last_group);
    v("last_serial", &T::last_serial);
    v("expected_devices", &T::expected_devices);
    v("reattach_until", &T::reattach_until);
    v("settled", &T::settled);
    v("deferred", &T::deferred);
    v("counters", &T::counters);
    v("placement_at", &T::placement_at);
    v("last_probe", &T::last_probe);
    v("probe_at", &T::probe_at);
    v("pool_at", &T::pool_at);
    v("move", &T::move);
    v("move_at", &T::move_at);
    v("models_to_look_at", &T::models_to_look_at);
    v("room_missing", &T::room_missing);
    v("load_awaited", &T::load_awaited);
    v("memory_awaited", &T::memory_awaited);
  }
};

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_STATE_FIELDS_H_
