#include "scheduler/metrics_text.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/core/memory_ledger.h"
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
    Models();
    Requests("tandem_", "model", {});
    Groups();
    Devices();
    Drains();
    if (facts_.vllm) Vllm();
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
        .Add({}, static_cast<double>(state_.waiting_tokens.value));
    Counter("requests_refused_total", "Requests that were refused on arrival, by the core.")
        .Add({}, static_cast<double>(state_.counters.refused));
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
    const auto of_ready = [&](Metric metric, auto&& value) {
      for (const auto& [id, group] : state_.groups) {
        if (group.kv_blocks == 0) continue;
        metric.Add({{"model", state_.At(group.model).spec.name}, {"group", core::Name(id)}}, value(group));
      }
    };
    of_ready(Gauge("kv_cache_usage_ratio", "Share of KV blocks in use, by the engine's word."), KvUsed);
    of_ready(Gauge("kv_cache_blocks", "KV blocks of each rank."),
             [](const core::Group& group) { return static_cast<double>(group.kv_blocks); });
    of_ready(Gauge("kv_booked_tokens", "Tokens of KV that the scheduler has promised."),
             [](const core::Group& group) { return static_cast<double>(group.kv.booked.value); });
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

}  // namespace tandem::scheduler
