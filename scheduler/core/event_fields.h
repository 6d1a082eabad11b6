// The members of every event by name, for format.h and parse.h. A new member is added here too; the round trip in
// format_test.cc notices one that is missing. Those of actions are in action_fields.h.
#ifndef TANDEM_SCHEDULER_CORE_EVENT_FIELDS_H_
#define TANDEM_SCHEDULER_CORE_EVENT_FIELDS_H_

#include "scheduler/core/action.h"
#include "scheduler/core/event.h"
#include "scheduler/core/kept_fields.h"
#include "scheduler/core/text.h"
#include "scheduler/core/types.h"

namespace tandem::core {

// ---- enums --------------------------------------------------------------------------------------------------------

template <>
struct EnumWords<Reason> {
  static constexpr const char* kWords[] = {"none",
                                           "invalid-parameter",
                                           "context-length-exceeded",
                                           "model-not-found",
                                           "tenant-limit",
                                           "queue-full",
                                           "draining",
                                           "no-capacity",
                                           "model-loading",
                                           "drain-aborted",
                                           "worker-lost",
                                           "deadline-unreachable",
                                           "deadline-exceeded",
                                           "engine-fault",
                                           "would-lose-last-replica",
                                           "never-fits",
                                           "model-mismatch",
                                           "cancelled",
                                           "not-found",
                                           "model-unusable"};
};
template <>
struct EnumWords<GroupFailure> {
  static constexpr const char* kWords[] = {"bootstrap", "model-unusable", "model-mismatch", "never-fits", "no-capacity",
                                           "peer-lost", "communicator",   "engine-fault",   "aborted",    "stale-epoch",
                                           "busy"};
};
template <>
struct EnumWords<CancelCause> {
  static constexpr const char* kWords[] = {"client-left", "client-asked", "admin-asked"};
};
template <>
struct EnumWords<EndedHow> {
  static constexpr const char* kWords[] = {"stopped", "length-reached", "aborted", "refused", "fault"};
};
template <>
struct EnumWords<OnDeadline> {
  static constexpr const char* kWords[] = {"wait", "abort", "migrate"};
};

template <>
struct EnumWords<placement::PathKind> {
  static constexpr const char* kWords[] = {"X",   "SHM", "NVSwitch", "NV",  "C2C", "PIX",
                                           "PXB", "PHB", "NODE",     "SYS", "NET"};
};

// ---- parts --------------------------------------------------------------------------------------------------------

template <>
struct Fields<KindCost> {
  static void Visit(auto&& v) {
    using T = KindCost;
    v("kind", &T::kind);
    v("static_bytes", &T::static_bytes);
    v("static_others", &T::static_others);
    v("kv_bytes_per_token", &T::kv_bytes_per_token);
  }
};
template <>
struct Fields<ShardCost> {
  static void Visit(auto&& v) {
    using T = ShardCost;
    v("tensor_parallel", &T::tensor_parallel);
    v("impossible", &T::impossible);
    v("static_bytes", &T::static_bytes);
    v("static_others", &T::static_others);
    v("kv_bytes_per_token", &T::kv_bytes_per_token);
    v("kinds", &T::kinds);
  }
};
template <>
struct Fields<ModelSpec> {
  static void Visit(auto&& v) {
    using T = ModelSpec;
    v("name", &T::name);
    v("aliases", &T::aliases);
    v("path", &T::path);
    v("revision", &T::revision);
    v("task", &T::task);
    v("dtype", &T::dtype);
    v("tensor_parallel", &T::tensor_parallel);
    v("replicas_min", &T::replicas_min);
    v("replicas_max", &T::replicas_max);
    v("max_model_len", &T::max_model_len);
    v("max_sequences", &T::max_sequences);
    v("max_batch_tokens", &T::max_batch_tokens);
    v("priority", &T::priority);
    v("memory_utilization", &T::memory_utilization);
    v("kv_most", &T::kv_most);
    v("costs", &T::costs);
    v("hidden", &T::hidden);
    v("layers", &T::layers);
    v("parameters", &T::parameters);
    v("for_latency", &T::for_latency);
  }
};
template <>
struct Fields<LinkLabel> {
  static void Visit(auto&& v) {
    using T = LinkLabel;
    v("peer_uuid", &T::peer_uuid);
    v("kind", &T::kind);
    v("nvlinks", &T::nvlinks);
  }
};
template <>
struct Fields<DeviceSpec> {
  static void Visit(auto&& v) {
    using T = DeviceSpec;
    v("node", &T::node);
    v("index", &T::index);
    v("kind", &T::kind);
    v("model", &T::model);
    v("uuid", &T::uuid);
    v("pci_bus_id", &T::pci_bus_id);
    v("numa_node", &T::numa_node);
    v("threads", &T::threads);
    v("build", &T::build);
    v("numerics", &T::numerics);
    v("memory_total", &T::memory_total);
    v("memory_free", &T::memory_free);
    v("memory_process", &T::memory_process);
    v("memory_budget", &T::memory_budget);
    v("links", &T::links);
  }
};
template <>
struct Fields<HeldRequest> {
  static void Visit(auto&& v) {
    using T = HeldRequest;
    v("request", &T::request);
    v("attempt", &T::attempt);
    v("prompt", &T::prompt);
    v("output", &T::output);
    v("ended", &T::ended);
  }
};
template <>
struct Fields<HeldShard> {
  static void Visit(auto&& v) {
    using T = HeldShard;
    v("group", &T::group);
    v("epoch", &T::epoch);
    v("rank", &T::rank);
    v("size", &T::size);
    v("model", &T::model);
    v("ready", &T::ready);
    v("kv_blocks", &T::kv_blocks);
    v("numerics_id", &T::numerics_id);
    v("requests", &T::requests);
    v("deployment", &T::deployment);
  }
};
template <>
struct Fields<GroupLoad> {
  static void Visit(auto&& v) {
    using T = GroupLoad;
    v("group", &T::group);
    v("epoch", &T::epoch);
    v("progress", &T::progress);
    v("busy", &T::busy);
    v("rank0", &T::rank0);
    v("free_blocks", &T::free_blocks);
    v("running", &T::running);
    v("waiting", &T::waiting);
    v("steps", &T::steps);
    v("preemptions", &T::preemptions);
    v("step_us", &T::step_us);
    v("step_tokens", &T::step_tokens);
  }
};

// ---- events -------------------------------------------------------------------------------------------------------

template <>
struct Fields<LeaderStarted> {
  static constexpr const char* kWord = "leader-started";
  static void Visit(auto&& v) {
    using T = LeaderStarted;
    v("leader_epoch", &T::leader_epoch);
    v("expected_devices", &T::expected_devices);
    v("devices", &T::devices);
    v("drains", &T::drains);
  }
};
template <>
struct Fields<ModelConfigured> {
  static constexpr const char* kWord = "model-configured";
  static void Visit(auto&& v) {
    using T = ModelConfigured;
    v("spec", &T::spec);
  }
};
template <>
struct Fields<Ticked> {
  static constexpr const char* kWord = "ticked";
  static void Visit(auto&&) {}
};
template <>
struct Fields<WorkerAttached> {
  static constexpr const char* kWord = "worker-attached";
  static void Visit(auto&& v) {
    using T = WorkerAttached;
    v("device", &T::device);
    v("incarnation", &T::incarnation);
    v("parked", &T::parked);
    v("shards", &T::shards);
  }
};
template <>
struct Fields<WorkerDetached> {
  static constexpr const char* kWord = "worker-detached";
  static void Visit(auto&& v) {
    using T = WorkerDetached;
    v("device", &T::device);
    v("incarnation", &T::incarnation);
    v("process_gone", &T::process_gone);
    v("why", &T::why);
  }
};
template <>
struct Fields<HeartbeatReceived> {
  static constexpr const char* kWord = "heartbeat-received";
  static void Visit(auto&& v) {
    using T = HeartbeatReceived;
    v("device", &T::device);
    v("incarnation", &T::incarnation);
    v("memory_free", &T::memory_free);
    v("memory_process", &T::memory_process);
    v("loads", &T::loads);
  }
};
template <>
struct Fields<HealthReported> {
  static constexpr const char* kWord = "health-reported";
  static void Visit(auto&& v) {
    using T = HealthReported;
    v("device", &T::device);
    v("incarnation", &T::incarnation);
    v("code", &T::code);
    v("message", &T::message);
    v("lasting", &T::lasting);
    v("cleared", &T::cleared);
  }
};
template <>
struct Fields<GroupFormed> {
  static constexpr const char* kWord = "group-formed";
  static void Visit(auto&& v) {
    using T = GroupFormed;
    v("device", &T::device);
    v("group", &T::group);
    v("epoch", &T::epoch);
  }
};
template <>
struct Fields<ModelLoaded> {
  static constexpr const char* kWord = "model-loaded";
  static void Visit(auto&& v) {
    using T = ModelLoaded;
    v("device", &T::device);
    v("group", &T::group);
    v("epoch", &T::epoch);
    v("static_bytes", &T::static_bytes);
  }
};
template <>
struct Fields<GroupReady> {
  static constexpr const char* kWord = "group-ready";
  static void Visit(auto&& v) {
    using T = GroupReady;
    v("device", &T::device);
    v("group", &T::group);
    v("epoch", &T::epoch);
    v("kv_blocks", &T::kv_blocks);
    v("block_tokens", &T::block_tokens);
    v("max_sequences", &T::max_sequences);
    v("max_model_len", &T::max_model_len);
    v("kv_bytes", &T::kv_bytes);
    v("numerics_id", &T::numerics_id);
  }
};
template <>
struct Fields<GroupFailed> {
  static constexpr const char* kWord = "group-failed";
  static void Visit(auto&& v) {
    using T = GroupFailed;
    v("device", &T::device);
    v("group", &T::group);
    v("epoch", &T::epoch);
    v("failure", &T::failure);
    v("message", &T::message);
  }
};
template <>
struct Fields<GroupLeft> {
  static constexpr const char* kWord = "group-left";
  static void Visit(auto&& v) {
    using T = GroupLeft;
    v("device", &T::device);
    v("group", &T::group);
    v("epoch", &T::epoch);
  }
};
template <>
struct Fields<LinkMeasured> {
  static constexpr const char* kWord = "link-measured";
  static void Visit(auto&& v) {
    using T = LinkMeasured;
    v("device", &T::device);
    v("probe", &T::probe);
    v("small_ns", &T::small_ns);
    v("bytes_per_second", &T::bytes_per_second);
  }
};
template <>
struct Fields<LinkProbeFailed> {
  static constexpr const char* kWord = "link-probe-failed";
  static void Visit(auto&& v) {
    using T = LinkProbeFailed;
    v("device", &T::device);
    v("probe", &T::probe);
    v("message", &T::message);
  }
};
template <>
struct Fields<CacheChanged> {
  static constexpr const char* kWord = "cache-changed";
  static void Visit(auto&& v) {
    using T = CacheChanged;
    v("device", &T::device);
    v("group", &T::group);
    v("epoch", &T::epoch);
    v("whole", &T::whole);
    v("stored", &T::stored);
    v("evicted", &T::evicted);
  }
};
template <>
struct Fields<RequestArrived> {
  static constexpr const char* kWord = "request-arrived";
  static void Visit(auto&& v) {
    using T = RequestArrived;
    v("request", &T::request);
    v("model", &T::model);
    v("prompt", &T::prompt);
    v("known_output", &T::known_output);
    v("max_tokens", &T::max_tokens);
    v("deadline", &T::deadline);
    v("priority", &T::priority);
    v("tenant", &T::tenant);
    v("prefix", &T::prefix);
    v("bytes", &T::bytes);
    v("caller_id", &T::caller_id);
    v("trace_id", &T::trace_id);
  }
};
template <>
struct Fields<RequestCancelled> {
  static constexpr const char* kWord = "request-cancelled";
  static void Visit(auto&& v) {
    using T = RequestCancelled;
    v("request", &T::request);
    v("cause", &T::cause);
  }
};
template <>
struct Fields<RequestStarted> {
  static constexpr const char* kWord = "request-started";
  static void Visit(auto&& v) {
    using T = RequestStarted;
    v("request", &T::request);
    v("attempt", &T::attempt);
    v("cached", &T::cached);
    v("output", &T::output);
  }
};
template <>
struct Fields<RequestComputed> {
  static constexpr const char* kWord = "request-computed";
  static void Visit(auto&& v) {
    using T = RequestComputed;
    v("request", &T::request);
    v("attempt", &T::attempt);
  }
};
template <>
struct Fields<RequestPreempted> {
  static constexpr const char* kWord = "request-preempted";
  static void Visit(auto&& v) {
    using T = RequestPreempted;
    v("request", &T::request);
    v("attempt", &T::attempt);
  }
};
template <>
struct Fields<RequestEnded> {
  static constexpr const char* kWord = "request-ended";
  static void Visit(auto&& v) {
    using T = RequestEnded;
    v("request", &T::request);
    v("attempt", &T::attempt);
    v("how", &T::how);
    v("output", &T::output);
    v("message", &T::message);
  }
};
template <>
struct Fields<RequestStopped> {
  static constexpr const char* kWord = "request-stopped";
  static void Visit(auto&& v) {
    using T = RequestStopped;
    v("request", &T::request);
    v("attempt", &T::attempt);
    v("output", &T::output);
  }
};
template <>
struct Fields<CordonRequested> {
  static constexpr const char* kWord = "cordon-requested";
  static void Visit(auto&& v) {
    using T = CordonRequested;
    v("device", &T::device);
    v("reason", &T::reason);
  }
};
template <>
struct Fields<UncordonRequested> {
  static constexpr const char* kWord = "uncordon-requested";
  static void Visit(auto&& v) {
    using T = UncordonRequested;
    v("device", &T::device);
  }
};
template <>
struct Fields<DrainRequested> {
  static constexpr const char* kWord = "drain-requested";
  static void Visit(auto&& v) {
    using T = DrainRequested;
    v("operation", &T::operation);
    v("devices", &T::devices);
    v("group", &T::group);
    v("reason", &T::reason);
    v("deadline", &T::deadline);
    v("on_deadline", &T::on_deadline);
    v("force", &T::force);
  }
};
template <>
struct Fields<UndrainRequested> {
  static constexpr const char* kWord = "undrain-requested";
  static void Visit(auto&& v) {
    using T = UndrainRequested;
    v("device", &T::device);
  }
};

template <>
struct Fields<RequestFound> {
  static constexpr const char* kWord = "request-found";
  static void Visit(auto&& v) {
    using T = RequestFound;
    v("request", &T::request);
    v("attempt", &T::attempt);
    v("group", &T::group);
    v("epoch", &T::epoch);
    v("rank0", &T::rank0);
    v("model", &T::model);
    v("prompt", &T::prompt);
    v("output", &T::output);
    v("max_tokens", &T::max_tokens);
    v("numerics_id", &T::numerics_id);
    v("deadline", &T::deadline);
    v("age", &T::age);
    v("priority", &T::priority);
    v("tenant", &T::tenant);
    v("prefix", &T::prefix);
    v("bytes", &T::bytes);
    v("caller_id", &T::caller_id);
    v("trace_id", &T::trace_id);
  }
};
template <>
struct Fields<RequestSpoiled> {
  static constexpr const char* kWord = "request-spoiled";
  static void Visit(auto&& v) {
    using T = RequestSpoiled;
    v("request", &T::request);
    v("message", &T::message);
  }
};
template <>
struct Fields<DeployRequested> {
  static constexpr const char* kWord = "deploy-requested";
  static void Visit(auto&& v) {
    using T = DeployRequested;
    v("model", &T::model);
    v("spec", &T::spec);
    v("reason", &T::reason);
  }
};
template <>
struct Fields<UndeployRequested> {
  static constexpr const char* kWord = "undeploy-requested";
  static void Visit(auto&& v) {
    using T = UndeployRequested;
    v("model", &T::model);
    v("reason", &T::reason);
  }
};
template <>
struct Fields<ScaleRequested> {
  static constexpr const char* kWord = "scale-requested";
  static void Visit(auto&& v) {
    using T = ScaleRequested;
    v("model", &T::model);
    v("replicas_min", &T::replicas_min);
    v("replicas_max", &T::replicas_max);
    v("reason", &T::reason);
  }
};

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_EVENT_FIELDS_H_
