#include "scheduler/metrics_text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/core/state_fields.h"
#include "scheduler/core/words.h"
#include "scheduler/row_messages.h"

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

// Counts are exact: a double holds every integer to 2^53. Fractions have the digits that are certain, so that 0.1 is
// 0.1.
std::string Number(double value) {
  constexpr double kExact = 9007199254740992;
  if (std::abs(value) <= kExact && value == std::trunc(value)) return absl::StrCat(static_cast<int64_t>(value));
  return absl::StrFormat("%.15g", value);
}

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

// 0 to 1; of a group without a cache 0.
double KvUsed(const GroupNumbers& group) {
  if (group.kv_blocks <= 0) return 0;
  return 1.0 - static_cast<double>(group.free_blocks) / static_cast<double>(group.kv_blocks);
}

class Writer {
 public:
  Writer(const MetricsSnapshot& seen, const RequestMetrics::Snapshot& requests, const MetricsFacts& facts)
      : seen_(seen), requests_(requests), facts_(facts), accounts_(AccountsOf(seen.groups)) {
    for (const ModelRow& model : seen.models) {
      names_[model.id] = &model.spec.name;
      if (!model.undeployed) models_.push_back(&model);
    }
  }

  std::string Run() {
    Program();
    Service();
    Models();
    Requests();
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
    Gauge("leader_epoch", "Grows with every start of a scheduler.")
        .Add({}, static_cast<double>(seen_.cluster.leader_epoch));
    Metric stale = Counter("stale_messages_total", "Of workers, ignored because what they are about is no more.");
    stale.Add({{"about", "group"}}, static_cast<double>(seen_.cluster.counters.stale_groups));
    stale.Add({{"about", "attempt"}}, static_cast<double>(seen_.cluster.counters.stale_attempts));
    stale.Add({{"about", "worker"}}, static_cast<double>(seen_.cluster.counters.stale_workers));
    stale.Add({{"about", "tokens"}}, static_cast<double>(facts_.stale_updates));
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
    Counter("slow_clients_dropped_total", "Calls that were cancelled because their client took no message for long.")
        .Add({}, static_cast<double>(facts_.slow_clients));
    Metric ends = Gauge("certificate_expiry_timestamp_seconds", "When the certificate of a door ends.");
    for (const auto& [door, seconds] : facts_.certificate_ends) ends.Add({{"door", door}}, seconds);
  }

  void Models() {
    Metric replicas =
        Gauge("model_replicas", "Replicas that demand wants, that serve, and that serve in an old shape.");
    for (const ModelRow* model : models_) {
      const ModelAccount& account = AccountOf(*model);
      replicas.Add({{"model", model->spec.name}, {"kind", "wanted"}}, model->wanted);
      replicas.Add({{"model", model->spec.name}, {"kind", "ready"}}, account.ready);
      replicas.Add({{"model", model->spec.name}, {"kind", "old"}}, account.old);
    }
    Metric running = Gauge("requests_running", "Requests with an engine.");
    for (const ModelRow* model : models_) {
      running.Add({{"model", model->spec.name}}, static_cast<double>(AccountOf(*model).requests));
    }
    Waiting();
    Gauge("waiting_tokens", "Prompt tokens of all requests that wait.")
        .Add({}, static_cast<double>(seen_.cluster.waiting.tokens.value));
    Gauge("waiting_bytes", "Memory of all requests that wait.")
        .Add({}, static_cast<double>(seen_.cluster.waiting.bytes.value));
    Counter("requests_refused_total", "Requests that were refused on arrival, by the core.")
        .Add({}, static_cast<double>(seen_.cluster.counters.refused));
    const core::Counters& counters = seen_.cluster.counters;
    Counter("requeues_total", "Requests that went back to their queue; migrated: an engine had begun them.")
        .Add({{"cause", "not_begun"}}, static_cast<double>(counters.requeued))
        .Add({{"cause", "migrated"}}, static_cast<double>(counters.migrated));
    Counter("aborts_total", "Requests that somebody took back before their end.")
        .Add({{"cause", "client_left"}}, static_cast<double>(counters.aborted_client_left))
        .Add({{"cause", "client_asked"}}, static_cast<double>(counters.aborted_client_asked))
        .Add({{"cause", "admin"}}, static_cast<double>(counters.aborted_admin));
    Counter("home_waits_total", "Requests that waited for a full group that holds their prompt, by what came of it.")
        .Add({{"outcome", "reached"}}, static_cast<double>(counters.homes_reached))
        .Add({{"outcome", "given_up"}}, static_cast<double>(counters.homes_given_up))
        .Add({{"outcome", "left"}}, static_cast<double>(counters.homes_left));
    Counter("spoiled_requests_total", "Requests whose tokens did not come whole from their engine.")
        .Add({}, static_cast<double>(counters.spoiled));
  }

  // Of each tenant that has a label, waiting or not, so that no series comes and goes.
  void Waiting() {
    struct Line {
      std::map<std::string, int64_t> by_tenant = {{"", 0}};
      core::Duration oldest;
      int64_t for_home = 0;
    };
    std::map<core::ModelId, Line> lines;
    for (const WaiterRow& waiter : seen_.waiters) {
      Line& line = lines[waiter.model];
      ++line.by_tenant[requests_.LabelOf(waiter.tenant)];
      line.oldest = std::max(line.oldest, waiter.waited);
      line.for_home += waiter.for_home;
    }
    for (const ModelRow* model : models_) {
      const auto it = requests_.models.find(model->spec.name);
      if (it == requests_.models.end()) continue;
      for (const auto& [tenant, flow] : it->second.flows) lines[model->id].by_tenant[tenant];
    }
    Metric waiting = Gauge("requests_waiting", "Requests in the scheduler's queue.");
    for (const ModelRow* model : models_) {
      for (const auto& [tenant, n] : lines[model->id].by_tenant) {
        waiting.Add({{"model", model->spec.name}, {"tenant", tenant}}, static_cast<double>(n));
      }
    }
    Metric home = Gauge("requests_waiting_for_home", "Of these, for a full group that holds much of their prompt.");
    for (const ModelRow* model : models_) {
      home.Add({{"model", model->spec.name}}, static_cast<double>(lines[model->id].for_home));
    }
    Metric oldest = Gauge("oldest_waiting_seconds", "Of the request that has been in the queue longest.");
    for (const ModelRow* model : models_) {
      oldest.Add({{"model", model->spec.name}}, static_cast<double>(lines[model->id].oldest.us) / 1e6);
    }
  }

  void Requests() {
    Metric total = Counter("requests_total", "Requests that ended, by how.");
    for (const auto& [model, n] : requests_.models) {
      for (const auto& [tenant, flow] : n.flows) {
        for (size_t i = 0; i < flow.outcomes.size(); ++i) {
          total.Add({{"model", model}, {"tenant", tenant}, {"outcome", kOutcomeWords[i]}},
                    static_cast<double>(flow.outcomes[i]));
        }
      }
    }
    Metric failures = Counter("request_failures_total", "Requests that did not finish, by reason.");
    for (const auto& [reason, n] : requests_.failures) failures.Add({{"reason", reason}}, static_cast<double>(n));
    Metric rejections = Counter("request_rejections_total", "Of these, turned away before any engine.");
    for (const auto& [key, n] : requests_.rejections) {
      rejections.Add({{"reason", key.first}, {"tenant", key.second}}, static_cast<double>(n));
    }
    struct Sum {
      const char* name;
      const char* help;
      uint64_t FlowNumbers::*value;
    };
    for (const Sum& sum :
         {Sum{"prompt_tokens_total", "Tokens of prompts, counted at the first token.", &FlowNumbers::prompt_tokens},
          Sum{"cached_prompt_tokens_total", "Of these, tokens found in the cache.", &FlowNumbers::cached_tokens},
          Sum{"generation_tokens_total", "Tokens of answers, as they come.", &FlowNumbers::output_tokens},
          Sum{"preemptions_total", "Times that requests were taken out to make room.", &FlowNumbers::preemptions}}) {
      Metric metric = Counter(sum.name, sum.help);
      for (const auto& [model, n] : requests_.models) {
        for (const auto& [tenant, flow] : n.flows) {
          metric.Add({{"model", model}, {"tenant", tenant}}, static_cast<double>(flow.*sum.value));
        }
      }
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
      Metric metric(&out_, absl::StrCat("tandem_", part.name), "histogram", part.help);
      for (const auto& [model, n] : requests_.models) metric.Add({{"model", model}}, n.*part.value);
    }
  }

  void Groups() {
    Metric groups = Gauge("groups", "Groups of workers, by state.");
    for (const ModelRow* model : models_) {
      for (const core::GroupState state : {core::GroupState::kForming, core::GroupState::kLoading,
                                           core::GroupState::kReady, core::GroupState::kDraining}) {
        groups.Add({{"model", model->spec.name}, {"state", absl::AsciiStrToLower(core::Words(state))}},
                   AccountOf(*model).states[static_cast<size_t>(state)]);
      }
    }
    Metric known = Gauge("prefix_index_entries", "Beginnings of prompts that groups are known to hold, by landmarks.");
    for (const ModelRow* model : models_) {
      known.Add({{"model", model->spec.name}}, static_cast<double>(model->prefixes));
    }
    Counter("prefix_reports_dropped_total", "Reported beginnings that a full index did not take.")
        .Add({}, static_cast<double>(seen_.cluster.counters.prefixes_dropped));
    Metric epochs = Gauge("group_epoch", "Counter of the group's epoch under this leader.");
    for (const GroupNumbers& group : seen_.groups) epochs.Add(Of(group), group.epoch.counter);
    Counter("nccl_errors_total", "Ranks that left their group because the communicator failed.")
        .Add({}, static_cast<double>(seen_.cluster.counters.communicator_errors));
    const auto of_ready = [&](Metric metric, auto&& value) {
      for (const GroupNumbers& group : seen_.groups) {
        if (group.kv_blocks != 0) metric.Add(Of(group), value(group));
      }
    };
    of_ready(Gauge("kv_cache_usage_ratio", "Share of KV blocks in use, by the engine's word."), KvUsed);
    Metric blocks = Gauge("kv_cache_blocks", "KV blocks of each rank, in use and free.");
    for (const GroupNumbers& group : seen_.groups) {
      if (group.kv_blocks == 0) continue;
      for (const auto& [word, n] :
           {std::pair("used", group.kv_blocks - group.free_blocks), std::pair("free", group.free_blocks)}) {
        Labels all = Of(group);
        all.push_back({"state", word});
        blocks.Add(all, n);
      }
    }
    of_ready(Gauge("kv_booked_tokens", "Tokens of KV that the scheduler has promised."),
             [](const GroupNumbers& group) { return static_cast<double>(group.booked.value); });
    of_ready(Gauge("batch_size", "Sequences in the engine's steps."),
             [](const GroupNumbers& group) { return static_cast<double>(group.running); });
    of_ready(Gauge("engine_running", "Sequences that the engine runs."),
             [](const GroupNumbers& group) { return static_cast<double>(group.running); });
    of_ready(Gauge("engine_waiting", "Requests in the engine's own queue."),
             [](const GroupNumbers& group) { return static_cast<double>(group.waiting); });
    of_ready(Gauge("engine_step_seconds", "Mean time of the latest steps."),
             [](const GroupNumbers& group) { return static_cast<double>(group.step_us) / 1e6; });
    of_ready(Gauge("engine_step_tokens", "Mean tokens that a step computes."),
             [](const GroupNumbers& group) { return static_cast<double>(group.step_tokens); });
    of_ready(Metric(&out_, "tandem_engine_steps_total", "counter", "Steps of the engine since its group formed."),
             [](const GroupNumbers& group) { return static_cast<double>(group.steps); });
  }

  static Labels Of(const DeviceRow& device) { return {{"device", device.name.ToString()}, {"uuid", device.uuid}}; }
  Labels Of(const GroupNumbers& group) const {
    const auto name = names_.find(group.model);
    return {{"model", name == names_.end() ? "" : *name->second}, {"group", core::Name(group.id)}};
  }
  const ModelAccount& AccountOf(const ModelRow& model) const { return scheduler::AccountOf(accounts_, model.id); }

  void Devices() {
    std::array<int, 6> counts{};
    for (const DeviceRow& device : seen_.devices) ++counts[static_cast<size_t>(device.state)];
    Metric workers = Gauge("workers", "Devices, by state.");
    for (size_t i = 0; i < counts.size(); ++i) {
      workers.Add({{"state", absl::AsciiStrToLower(core::Words(static_cast<core::DeviceState>(i)))}}, counts[i]);
    }
    const auto each = [&](Metric metric, auto&& value) {
      for (const DeviceRow& device : seen_.devices) metric.Add(Of(device), value(device));
    };
    Metric state = Gauge("device_state", "1 for the state that the device is in.");
    for (const DeviceRow& device : seen_.devices) {
      Labels labels = Of(device);
      labels.push_back({"state", absl::AsciiStrToLower(core::Words(device.state))});
      state.Add(labels, 1);
    }
    each(Gauge("device_cordoned", "1 while no new group is formed there."),
         [](const DeviceRow& device) { return device.cordoned ? 1.0 : 0.0; });
    each(Gauge("worker_heartbeat_age_seconds", "Since the worker was heard of last."),
         [](const DeviceRow& device) { return static_cast<double>(device.heartbeat_age.us) / 1e6; });
    Metric health =
        Gauge("device_health", "1 for each thing that is wrong by the device's own word, and what is done.");
    for (const DeviceRow& device : seen_.devices) {
      for (const core::Ailment& ailment : device.ailments) {
        Labels labels = Of(device);
        labels.push_back({"code", ailment.code});
        labels.push_back({"action", core::EnumWords<core::HealthAction>::kWords[static_cast<size_t>(ailment.action)]});
        health.Add(labels, 1);
      }
    }
    Metric reports = Counter("device_health_events_total", "Reports of devices on their health, by code.");
    for (const core::HealthCount& count : seen_.cluster.counters.health) {
      reports.Add({{"code", count.code}}, static_cast<double>(count.reports));
    }
    const core::Counters& counters = seen_.cluster.counters;
    Metric lost = Counter("worker_lost_total", "Worker processes that were taken for gone, by why.");
    for (const auto& [cause, n] :
         {std::pair("left", counters.lost_left), std::pair("stream", counters.lost_stream),
          std::pair("frozen", counters.lost_frozen), std::pair("replaced", counters.lost_replaced),
          std::pair("disobeyed", counters.lost_disobeyed)}) {
      lost.Add({{"cause", cause}}, static_cast<double>(n));
    }
    Metric memory = Gauge("device_memory_bytes", "Of the device: all of it, what groups may take, take, others take.");
    for (const DeviceRow& device : seen_.devices) {
      const std::pair<const char*, core::Bytes> kinds[] = {{"total", device.memory_total},
                                                           {"budget", device.memory_budget},
                                                           {"free", device.memory_free},
                                                           {"ours", device.memory_ours},
                                                           {"other", device.memory_foreign}};
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
    Metric(&out_, "tandem_drain_duration_seconds", "histogram", "Drains, from being asked for to their end.")
        .Add({}, requests_.drain_duration);
    Gauge("drains_inflight", "Drains under way.").Add({}, static_cast<double>(seen_.cluster.drains));
    Gauge("drain_inflight_requests", "Requests that drains wait for.").Add({}, seen_.cluster.drain_requests);
  }

  // The names that dashboards, pickers and autoscalers made for vLLM read.
  void Vllm() {
    const auto labels = [](const std::string& model) { return Labels{{"model_name", model}, {"engine", "0"}}; };
    const auto gauge = [&](const char* name, const char* help, auto&& value) {
      Metric metric(&out_, absl::StrCat("vllm:", name), "gauge", help);
      for (const ModelRow* model : models_) metric.Add(labels(model->spec.name), value(*model));
    };
    gauge("num_requests_running", "As tandem_requests_running.",
          [&](const ModelRow& model) { return static_cast<double>(AccountOf(model).requests); });
    gauge("num_requests_waiting", "As tandem_requests_waiting.",
          [](const ModelRow& model) { return static_cast<double>(model.queued); });
    struct Caches {
      double used = 0;
      int ready = 0;
      const GroupNumbers* first = nullptr;
    };
    std::map<core::ModelId, Caches> caches;
    for (const GroupNumbers& group : seen_.groups) {
      if (group.kv_blocks == 0) continue;
      Caches& of_model = caches[group.model];
      of_model.used += KvUsed(group), ++of_model.ready;
      if (of_model.first == nullptr) of_model.first = &group;
    }
    gauge("kv_cache_usage_perc", "Mean of tandem_kv_cache_usage_ratio.", [&](const ModelRow& model) {
      const Caches& of_model = caches[model.id];
      return of_model.ready == 0 ? 0 : of_model.used / of_model.ready;
    });
    Metric cache(&out_, "vllm:cache_config_info", "gauge", "Always 1; a replica's KV cache is in the labels.");
    for (const ModelRow* model : models_) {
      const GroupNumbers* group = caches[model->id].first;
      if (group == nullptr) continue;
      Labels all = labels(model->spec.name);
      all.push_back({"block_size", absl::StrCat(group->block_tokens)});
      all.push_back({"num_gpu_blocks", absl::StrCat(group->kv_blocks)});
      cache.Add(all, 1);
    }
    uint64_t rejected = 0;
    for (const auto& [key, n] : requests_.rejections) rejected += n;
    Metric(&out_, "vllm:admission_rejections_total", "counter", "The sum of tandem_request_rejections_total.")
        .Add({{"engine", "0"}}, static_cast<double>(rejected));
    const auto counter = [&](const char* name, const char* help, auto&& value) {
      Metric metric(&out_, absl::StrCat("vllm:", name), "counter", help);
      for (const auto& [model, n] : requests_.models) metric.Add(labels(model), static_cast<double>(value(n.Sum())));
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
      const FlowNumbers sum = n.Sum();
      for (const auto& [reason, outcome] :
           {std::pair("stop", Outcome::kStopped), std::pair("length", Outcome::kLength)}) {
        Labels all = labels(model);
        all.push_back({"finished_reason", reason});
        success.Add(all, static_cast<double>(sum.outcomes[static_cast<size_t>(outcome)]));
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

  const MetricsSnapshot& seen_;
  const RequestMetrics::Snapshot& requests_;
  const MetricsFacts& facts_;
  const std::map<core::ModelId, ModelAccount> accounts_;
  std::map<core::ModelId, const std::string*> names_;
  std::vector<const ModelRow*> models_;  // that are served
  std::string out_;
};

}  // namespace

std::string MetricsText(const MetricsSnapshot& seen, const RequestMetrics::Snapshot& requests,
                        const MetricsFacts& facts) {
  return Writer(seen, requests, facts).Run();
}

std::string VllmMetricsText(const MetricsSnapshot& seen, const RequestMetrics::Snapshot& requests) {
  return Writer(seen, requests, {}).RunVllm();
}

}  // namespace tandem::scheduler
