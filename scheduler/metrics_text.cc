#include "scheduler/metrics_text.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/core/memory_ledger.h"
#include "scheduler/core/state_fields.h"
#include "scheduler/core/words.h"

namespace tandem::scheduler {
namespace {

using Labels = std::vector<std::pair<const char*, std::string>>;

std::string Escaped(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '\\' || c == '"') out.push_back('\\');
    if (c == '\n') {
      out += "\\n";
    } else {
      out.push_back(c);
    }
  }
  return out;
}

std::string Braces(const Labels& labels) {
  std::string out;
  for (const auto& [name, value] : labels) {
    absl::StrAppend(&out, out.empty() ? "{" : ",", name, "=\"", Escaped(value), "\"");
  }
  return out.empty() ? out : out + "}";
}

std::string Number(double value) { return absl::StrFormat("%.10g", value); }

// One metric with its samples. Writes nothing where there are none.
class Metric {
 public:
  Metric(std::string* out, std::string name, const char* type, const char* help)
      : out_(out), name_(std::move(name)), type_(type), help_(help) {}

  Metric& Add(const Labels& labels, double value) {
    Head();
    absl::StrAppend(out_, name_, Braces(labels), " ", Number(value), "\n");
    return *this;
  }
  Metric& Add(const Labels& labels, const Histogram& histogram) {
    Head();
    uint64_t below = 0;
    for (size_t i = 0; i <= histogram.bounds().size(); ++i) {
      below += histogram.counts()[i];
      Labels bucket = labels;
      bucket.push_back({"le", i < histogram.bounds().size() ? Number(histogram.bounds()[i]) : "+Inf"});
      absl::StrAppend(out_, name_, "_bucket", Braces(bucket), " ", below, "\n");
    }
    absl::StrAppend(out_, name_, "_sum", Braces(labels), " ", Number(histogram.sum()), "\n");
    absl::StrAppend(out_, name_, "_count", Braces(labels), " ", histogram.count(), "\n");
    return *this;
  }

 private:
  void Head() {
    if (std::exchange(begun_, true)) return;
    absl::StrAppend(out_, "# HELP ", name_, " ", help_, "\n# TYPE ", name_, " ", type_, "\n");
  }

  std::string* const out_;
  const std::string name_;
  const char* const type_;
  const char* const help_;
  bool begun_ = false;
};

// As google.rpc.Code writes them.
const char* CodeWord(int code) {
  static constexpr const char* kWords[] = {
      "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
      "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
      "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
      "DATA_LOSS", "UNAUTHENTICATED"};
  return code >= 0 && code < static_cast<int>(std::size(kWords)) ? kWords[code] : "UNKNOWN";
}

// The request was turned away; it did not fail under way.
bool IsRejection(const std::string& reason) {
  for (const core::Reason turned_away :
       {core::Reason::kInvalidParameter, core::Reason::kContextLengthExceeded, core::Reason::kModelNotFound,
        core::Reason::kTenantLimit, core::Reason::kQueueFull, core::Reason::kDraining, core::Reason::kNoCapacity,
        core::Reason::kModelLoading, core::Reason::kDeadlineUnreachable, core::Reason::kNeverFits,
        core::Reason::kModelMismatch, core::Reason::kModelUnusable}) {
    if (reason == core::Words(turned_away)) return true;
  }
  return false;
}

int64_t RequestsOn(const core::ClusterState& state, const core::Model& model) {
  int64_t requests = 0;
  for (core::GroupId id : model.groups) requests += static_cast<int64_t>(state.Find(id)->requests.size());
  return requests;
}

// 0 to 1; of a group without a cache 0.
double KvUsed(const core::Group& group) {
  if (group.kv_blocks <= 0) return 0;
  return 1.0 - static_cast<double>(group.free_blocks) / static_cast<double>(group.kv_blocks);
}

class Writer {
 public:
  Writer(const core::ClusterState& state, const RequestMetrics::Snapshot& requests, const MetricsFacts& facts)
      : state_(state), requests_(requests), facts_(facts) {
    for (const core::Model& model : state.models) {
      if (!model.undeployed) models_.push_back(&model);
    }
  }

  std::string Run() {
    Program();
    Service();
    Models();
    Requests("tandem_", "model", {});
    Groups();
    Devices();
    Drains();
    if (facts_.vllm) Vllm();
    return std::move(out_);
  }
  std::string RunVllm() {
    Vllm();
    return std::move(out_);
  }

 private:
  Metric Gauge(const char* name, const char* help) { return {&out_, absl::StrCat("tandem_", name), "gauge", help}; }
  Metric Counter(const char* name, const char* help) { return {&out_, absl::StrCat("tandem_", name), "counter", help}; }

  void Program() {
    Gauge("build_info", "Always 1; the version is in the label.").Add({{"version", facts_.version}}, 1);
    Gauge("uptime_seconds", "Since the scheduler started.").Add({}, facts_.uptime_seconds);
    Gauge("leader_epoch", "Grows with every start of a scheduler.").Add({}, static_cast<double>(state_.leader_epoch));
    Metric stale = Counter("stale_messages_total", "Of workers, ignored because what they are about is no more.");
    stale.Add({{"about", "group"}}, static_cast<double>(state_.counters.stale_groups));
    stale.Add({{"about", "attempt"}}, static_cast<double>(state_.counters.stale_attempts));
    stale.Add({{"about", "worker"}}, static_cast<double>(state_.counters.stale_workers));
  }

  // What the service itself does: deciding, and answering calls.
  void Service() {
    Gauge("leader", "1: this scheduler decides.").Add({}, 1);
    Metric(&out_, "tandem_schedule_decision_seconds", "histogram", "Of the core, for one event.")
        .Add({}, requests_.decisions);
    Metric calls = Counter("grpc_server_handled_total", "Calls of clients and operators that have ended.");
    for (const auto& [key, n] : requests_.calls) {
      calls.Add({{"method", key.first}, {"code", CodeWord(key.second)}}, static_cast<double>(n));
    }
    Metric refused = Counter("calls_refused_total", "Calls of nobody known, or of somebody without the role for them.");
    for (const auto& [reason, n] : requests_.refused) refused.Add({{"reason", reason}}, static_cast<double>(n));
    Metric ends = Gauge("certificate_expiry_timestamp_seconds", "When the certificate of a door ends.");
    for (const auto& [door, seconds] : facts_.certificate_ends) ends.Add({{"door", door}}, seconds);
  }

  void Models() {
    Metric replicas =
        Gauge("model_replicas", "Replicas that demand wants, that serve, and that serve in an old shape.");
    for (const core::Model* model : models_) {
      int old = 0;
      for (core::GroupId id : model->groups) old += state_.Find(id)->outdated && state_.Find(id)->Serves();
      replicas.Add({{"model", model->spec.name}, {"kind", "wanted"}}, state_.Wanted(*model));
      replicas.Add({{"model", model->spec.name}, {"kind", "ready"}}, state_.ReadyReplicas(*model));
      replicas.Add({{"model", model->spec.name}, {"kind", "old"}}, old);
    }
    Metric running = Gauge("requests_running", "Requests with an engine.");
    for (const core::Model* model : models_) {
      running.Add({{"model", model->spec.name}}, static_cast<double>(RequestsOn(state_, *model)));
    }
    Metric waiting = Gauge("requests_waiting", "Requests in the scheduler's queue.");
    for (const core::Model* model : models_) {
      waiting.Add({{"model", model->spec.name}}, static_cast<double>(model->queue.size()));
    }
    Gauge("waiting_tokens", "Prompt tokens of all requests that wait.")
        .Add({}, static_cast<double>(state_.waiting.tokens.value));
    Gauge("waiting_bytes", "Memory of all requests that wait.")
        .Add({}, static_cast<double>(state_.waiting.bytes.value));
    Counter("requests_refused_total", "Requests that were refused on arrival, by the core.")
        .Add({}, static_cast<double>(state_.counters.refused));
    const core::Counters& counters = state_.counters;
    Counter("requeues_total", "Requests that went back to their queue; migrated: an engine had begun them.")
        .Add({{"cause", "not_begun"}}, static_cast<double>(counters.requeued))
        .Add({{"cause", "migrated"}}, static_cast<double>(counters.migrated));
    Counter("aborts_total", "Requests that somebody took back before their end.")
        .Add({{"cause", "client_left"}}, static_cast<double>(counters.aborted_client_left))
        .Add({{"cause", "client_asked"}}, static_cast<double>(counters.aborted_client_asked))
        .Add({{"cause", "admin"}}, static_cast<double>(counters.aborted_admin));
  }

  void Requests(const std::string& prefix, const char* label, const Labels& more) {
    const auto labels = [&](const std::string& model) {
      Labels all = {{label, model}};
      all.insert(all.end(), more.begin(), more.end());
      return all;
    };
    const auto with = [&](const std::string& model, const char* name, const char* value) {
      Labels all = labels(model);
      all.push_back({name, value});
      return all;
    };
    Metric total(&out_, prefix + "requests_total", "counter", "Requests that ended, by how.");
    for (const auto& [model, n] : requests_.models) {
      total.Add(with(model, "outcome", "stopped"), static_cast<double>(n.stopped));
      total.Add(with(model, "outcome", "length"), static_cast<double>(n.length_reached));
      total.Add(with(model, "outcome", "failed"), static_cast<double>(n.failed));
      total.Add(with(model, "outcome", "cancelled"), static_cast<double>(n.cancelled));
    }
    Metric failures(&out_, prefix + "request_failures_total", "counter", "Requests that did not finish, by reason.");
    for (const auto& [reason, n] : requests_.failures) failures.Add({{"reason", reason}}, static_cast<double>(n));
    Metric rejections(&out_, prefix + "request_rejections_total", "counter", "Of these, refused before any engine.");
    for (const auto& [reason, n] : requests_.failures) {
      if (IsRejection(reason)) rejections.Add({{"reason", reason}}, static_cast<double>(n));
    }
    struct Sum {
      const char* name;
      const char* help;
      uint64_t ModelNumbers::*value;
    };
    for (const Sum& sum :
         {Sum{"prompt_tokens_total", "Prompt tokens of finished requests.", &ModelNumbers::prompt_tokens},
          Sum{"cached_prompt_tokens_total", "Of these, tokens found in the cache.", &ModelNumbers::cached_tokens},
          Sum{"generation_tokens_total", "Tokens that finished requests got.", &ModelNumbers::output_tokens},
          Sum{"preemptions_total", "Times that requests were taken out to make room.", &ModelNumbers::preemptions}}) {
      Metric metric(&out_, prefix + sum.name, "counter", sum.help);
      for (const auto& [model, n] : requests_.models) metric.Add(labels(model), static_cast<double>(n.*sum.value));
    }
    struct Part {
      const char* name;
      const char* help;
      Histogram ModelNumbers::*value;
    };
    for (const Part& part :
         {Part{"time_to_first_token_seconds", "From arrival to the first token.", &ModelNumbers::first_token},
          Part{"inter_token_latency_seconds", "Between two tokens, mean of a request.", &ModelNumbers::inter_token},
          Part{"request_duration_seconds", "From arrival to the end.", &ModelNumbers::duration},
          Part{"queue_time_seconds", "From arrival to an engine.", &ModelNumbers::queue},
          Part{"prefill_time_seconds", "From an engine to the first token.", &ModelNumbers::prefill},
          Part{"decode_time_seconds", "From the first token to the end.", &ModelNumbers::decode},
          Part{"request_prompt_tokens", "Prompt tokens of a request.", &ModelNumbers::prompt_size},
          Part{"request_generation_tokens", "Output tokens of a request.", &ModelNumbers::output_size}}) {
      Metric metric(&out_, prefix + part.name, "histogram", part.help);
      for (const auto& [model, n] : requests_.models) metric.Add(labels(model), n.*part.value);
    }
  }

  void Groups() {
    Metric groups = Gauge("groups", "Groups of workers, by state.");
    for (const core::Model* model : models_) {
      std::array<int, 4> counts{};
      for (core::GroupId id : model->groups) ++counts[static_cast<size_t>(state_.Find(id)->state)];
      for (size_t i = 0; i < counts.size(); ++i) {
        const std::string word = absl::AsciiStrToLower(core::Words(static_cast<core::GroupState>(i)));
        groups.Add({{"model", model->spec.name}, {"state", word}}, counts[i]);
      }
    }
    Metric known = Gauge("prefix_index_entries", "Beginnings of prompts that groups are known to hold, by landmarks.");
    for (const core::Model* model : models_) {
      known.Add({{"model", model->spec.name}}, static_cast<double>(model->prefixes.size()));
    }
    Counter("prefix_reports_dropped_total", "Reported beginnings that a full index did not take.")
        .Add({}, static_cast<double>(state_.counters.prefixes_dropped));
    Metric epochs = Gauge("group_epoch", "Counter of the group's epoch under this leader.");
    for (const auto& [id, group] : state_.groups) {
      epochs.Add({{"model", state_.At(group.model).spec.name}, {"group", core::Name(id)}}, group.epoch.counter);
    }
    Counter("nccl_errors_total", "Ranks that left their group because the communicator failed.")
        .Add({}, static_cast<double>(state_.counters.communicator_errors));
    const auto of_ready = [&](Metric metric, auto&& value) {
      for (const auto& [id, group] : state_.groups) {
        if (group.kv_blocks == 0) continue;
        metric.Add({{"model", state_.At(group.model).spec.name}, {"group", core::Name(id)}}, value(group));
      }
    };
    of_ready(Gauge("kv_cache_usage_ratio", "Share of KV blocks in use, by the engine's word."), KvUsed);
    Metric blocks = Gauge("kv_cache_blocks", "KV blocks of each rank, in use and free.");
    for (const auto& [id, group] : state_.groups) {
      if (group.kv_blocks == 0) continue;
      const Labels labels = {{"model", state_.At(group.model).spec.name}, {"group", core::Name(id)}};
      for (const auto& [word, n] :
           {std::pair("used", group.kv_blocks - group.free_blocks), std::pair("free", group.free_blocks)}) {
        Labels all = labels;
        all.push_back({"state", word});
        blocks.Add(all, n);
      }
    }
    of_ready(Gauge("kv_booked_tokens", "Tokens of KV that the scheduler has promised."),
             [](const core::Group& group) { return static_cast<double>(group.kv.booked.value); });
    of_ready(Gauge("batch_size", "Sequences in the engine's steps."),
             [](const core::Group& group) { return static_cast<double>(group.running); });
    of_ready(Gauge("engine_running", "Sequences that the engine runs."),
             [](const core::Group& group) { return static_cast<double>(group.running); });
    of_ready(Gauge("engine_waiting", "Requests in the engine's own queue."),
             [](const core::Group& group) { return static_cast<double>(group.waiting); });
    of_ready(Gauge("engine_step_seconds", "Mean time of the latest steps."),
             [](const core::Group& group) { return static_cast<double>(group.step_us) / 1e6; });
    of_ready(Gauge("engine_step_tokens", "Mean tokens that a step computes."),
             [](const core::Group& group) { return static_cast<double>(group.step_tokens); });
    of_ready(Metric(&out_, "tandem_engine_steps_total", "counter", "Steps of the engine since its group formed."),
             [](const core::Group& group) { return static_cast<double>(group.steps); });
  }

  static Labels Of(const core::Device& device) { return {{"device", device.spec.Name()}, {"uuid", device.spec.uuid}}; }

  void Devices() {
    std::array<int, 6> counts{};
    for (const core::Device& device : state_.devices) ++counts[static_cast<size_t>(device.state)];
    Metric workers = Gauge("workers", "Devices, by state.");
    for (size_t i = 0; i < counts.size(); ++i) {
      workers.Add({{"state", absl::AsciiStrToLower(core::Words(static_cast<core::DeviceState>(i)))}}, counts[i]);
    }
    const auto each = [&](Metric metric, auto&& value) {
      for (const core::Device& device : state_.devices) metric.Add(Of(device), value(device));
    };
    Metric state = Gauge("device_state", "1 for the state that the device is in.");
    for (const core::Device& device : state_.devices) {
      Labels labels = Of(device);
      labels.push_back({"state", absl::AsciiStrToLower(core::Words(device.state))});
      state.Add(labels, 1);
    }
    each(Gauge("device_cordoned", "1 while no new group is formed there."),
         [](const core::Device& device) { return device.cordoned ? 1.0 : 0.0; });
    each(Gauge("worker_heartbeat_age_seconds", "Since the worker was heard of last."),
         [&](const core::Device& device) { return static_cast<double>((state_.now - device.last_heard).us) / 1e6; });
    Metric health =
        Gauge("device_health", "1 for each thing that is wrong by the device's own word, and what is done.");
    for (const core::Device& device : state_.devices) {
      for (const core::Ailment& ailment : device.ailments) {
        Labels labels = Of(device);
        labels.push_back({"code", ailment.code});
        labels.push_back({"action", core::EnumWords<core::HealthAction>::kWords[static_cast<size_t>(ailment.action)]});
        health.Add(labels, 1);
      }
    }
    Metric reports = Counter("device_health_events_total", "Reports of devices on their health, by code.");
    for (const core::HealthCount& count : state_.counters.health) {
      reports.Add({{"code", count.code}}, static_cast<double>(count.reports));
    }
    const core::Counters& counters = state_.counters;
    Metric lost = Counter("worker_lost_total", "Worker processes that were taken for gone, by why.");
    for (const auto& [cause, n] :
         {std::pair("left", counters.lost_left), std::pair("stream", counters.lost_stream),
          std::pair("frozen", counters.lost_frozen), std::pair("replaced", counters.lost_replaced),
          std::pair("disobeyed", counters.lost_disobeyed)}) {
      lost.Add({{"cause", cause}}, static_cast<double>(n));
    }
    Metric memory = Gauge("device_memory_bytes", "Of the device: all of it, what groups may take, take, others take.");
    for (const core::Device& device : state_.devices) {
      const std::pair<const char*, core::Bytes> kinds[] = {{"total", device.spec.memory_total},
                                                           {"budget", device.spec.memory_budget},
                                                           {"free", device.memory_free},
                                                           {"ours", core::MemoryOurs(state_, device)},
                                                           {"other", core::ForeignMemory(device)}};
      for (const auto& [kind, bytes] : kinds) {
        Labels labels = Of(device);
        labels.push_back({"kind", kind});
        memory.Add(labels, static_cast<double>(bytes.value));
      }
    }
  }

  void Drains() {
    Metric ended = Counter("drains_total", "Drains that ended, by how.");
    for (const auto& [outcome, n] : requests_.drains) ended.Add({{"result", outcome}}, static_cast<double>(n));
    int left = 0;
    for (const auto& [id, drain] : state_.drains) left += std::max(0, drain.requests_left);
    Metric(&out_, "tandem_drain_duration_seconds", "histogram", "Drains, from being asked for to their end.")
        .Add({}, requests_.drain_duration);
    Gauge("drains_inflight", "Drains under way.").Add({}, static_cast<double>(state_.drains.size()));
    Gauge("drain_inflight_requests", "Requests that drains wait for.").Add({}, left);
  }

  // The names that dashboards, pickers and autoscalers made for vLLM read.
  void Vllm() {
    const auto labels = [](const std::string& model) { return Labels{{"model_name", model}, {"engine", "0"}}; };
    const auto gauge = [&](const char* name, const char* help, auto&& value) {
      Metric metric(&out_, absl::StrCat("vllm:", name), "gauge", help);
      for (const core::Model* model : models_) metric.Add(labels(model->spec.name), value(*model));
    };
    gauge("num_requests_running", "As tandem_requests_running.",
          [&](const core::Model& model) { return static_cast<double>(RequestsOn(state_, model)); });
    gauge("num_requests_waiting", "As tandem_requests_waiting.",
          [](const core::Model& model) { return static_cast<double>(model.queue.size()); });
    gauge("kv_cache_usage_perc", "Mean of tandem_kv_cache_usage_ratio.", [&](const core::Model& model) {
      double used = 0;
      int ready = 0;
      for (core::GroupId id : model.groups) {
        const core::Group& group = *state_.Find(id);
        if (group.kv_blocks > 0) used += KvUsed(group), ++ready;
      }
      return ready == 0 ? 0 : used / ready;
    });
    Metric cache(&out_, "vllm:cache_config_info", "gauge", "Always 1; a replica's KV cache is in the labels.");
    for (const core::Model* model : models_) {
      for (core::GroupId id : model->groups) {
        const core::Group& group = *state_.Find(id);
        if (group.kv_blocks == 0) continue;
        Labels all = labels(model->spec.name);
        all.push_back({"block_size", absl::StrCat(group.block_tokens)});
        all.push_back({"num_gpu_blocks", absl::StrCat(group.kv_blocks)});
        cache.Add(all, 1);
        break;
      }
    }
    uint64_t rejected = 0;
    for (const auto& [reason, n] : requests_.failures) rejected += IsRejection(reason) ? n : 0;
    Metric(&out_, "vllm:admission_rejections_total", "counter", "The sum of tandem_request_rejections_total.")
        .Add({{"engine", "0"}}, static_cast<double>(rejected));
    const auto counter = [&](const char* name, const char* help, auto&& value) {
      Metric metric(&out_, absl::StrCat("vllm:", name), "counter", help);
      for (const auto& [model, n] : requests_.models) metric.Add(labels(model), static_cast<double>(value(n)));
    };
    counter("prompt_tokens_total", "As tandem_prompt_tokens_total.", [](const auto& n) { return n.prompt_tokens; });
    counter("generation_tokens_total", "As tandem_generation_tokens_total.",
            [](const auto& n) { return n.output_tokens; });
    counter("prefix_cache_queries_total", "Prompt tokens.", [](const auto& n) { return n.prompt_tokens; });
    counter("prefix_cache_hits_total", "Prompt tokens found in the cache.",
            [](const auto& n) { return n.cached_tokens; });
    counter("num_preemptions_total", "As tandem_preemptions_total.", [](const auto& n) { return n.preemptions; });
    Metric success(&out_, "vllm:request_success_total", "counter", "Requests that finished, by reason.");
    for (const auto& [model, n] : requests_.models) {
      for (const auto& [reason, count] : {std::pair("stop", n.stopped), std::pair("length", n.length_reached)}) {
        Labels all = labels(model);
        all.push_back({"finished_reason", reason});
        success.Add(all, static_cast<double>(count));
      }
    }
    const auto histogram = [&](const char* name, const char* help, Histogram ModelNumbers::*value) {
      Metric metric(&out_, absl::StrCat("vllm:", name), "histogram", help);
      for (const auto& [model, n] : requests_.models) metric.Add(labels(model), n.*value);
    };
    histogram("time_to_first_token_seconds", "As ours.", &ModelNumbers::first_token);
    histogram("inter_token_latency_seconds", "As ours.", &ModelNumbers::inter_token);
    histogram("e2e_request_latency_seconds", "As tandem_request_duration_seconds.", &ModelNumbers::duration);
    histogram("request_queue_time_seconds", "As tandem_queue_time_seconds.", &ModelNumbers::queue);
    histogram("request_prefill_time_seconds", "As tandem_prefill_time_seconds.", &ModelNumbers::prefill);
    histogram("request_decode_time_seconds", "As tandem_decode_time_seconds.", &ModelNumbers::decode);
    histogram("request_inference_time_seconds", "With an engine.", &ModelNumbers::inference);
    histogram("request_prompt_tokens", "As ours.", &ModelNumbers::prompt_size);
    histogram("request_generation_tokens", "As ours.", &ModelNumbers::output_size);
  }

  const core::ClusterState& state_;
  const RequestMetrics::Snapshot& requests_;
  const MetricsFacts& facts_;
  std::vector<const core::Model*> models_;
  std::string out_;
};

}  // namespace

std::string MetricsText(const core::ClusterState& state, const RequestMetrics::Snapshot& requests,
                        const MetricsFacts& facts) {
  return Writer(state, requests, facts).Run();
}

std::string VllmMetricsText(const core::ClusterState& state, const RequestMetrics::Snapshot& requests) {
  return Writer(state, requests, {}).RunVllm();
}

}  // namespace tandem::scheduler
