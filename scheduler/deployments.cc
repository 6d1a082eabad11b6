#include "scheduler/deployments.h"

#include <glog/logging.h>

#include <algorithm>
#include <future>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "config/schema.h"
#include "scheduler/core/placement.h"
#include "scheduler/mutation.h"
#include "scheduler/name_resolver.h"
#include "scheduler/row_messages.h"

namespace tandem::scheduler {
namespace {

constexpr size_t kMostWaiting = 16;  // each may take seconds: more at once are a program gone wild
// Slots of the core's table of models are not used again while it runs.
constexpr size_t kMostModels = 1024;

// One line a key, in the words of the configuration file.
std::string TextOf(const config::ModelConfig& config) {
  std::string text;
  for (const config::ModelKey& key : config::ModelKeys())
    absl::StrAppend(&text, key.name, "=", key.write(config), "\n");
  return text;
}

absl::StatusOr<config::ModelConfig> ConfigFromText(const std::string& text) {
  config::ModelConfig config;
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> pair = absl::StrSplit(line, absl::MaxSplits('=', 1));
    const config::ModelKey* key = config::FindModelKey(pair.first);
    if (key == nullptr) return absl::InvalidArgumentError(absl::StrCat("no key ", pair.first));
    if (pair.second.empty()) continue;  // as the default is
    if (absl::Status status = key->read(pair.second, config); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(pair.first, ": ", status.message()));
    }
  }
  return config;
}

std::string BaseText(const std::vector<config::ModelConfig>& file, const std::string& name) {
  for (const config::ModelConfig& config : file) {
    if (config.name == name) return HashRequest("model", TextOf(config));
  }
  return "";
}

std::string Short(const std::string& name) {
  absl::string_view rest = name;
  if (!absl::ConsumePrefix(&rest, "models/")) absl::ConsumePrefix(&rest, "model/");
  return std::string(rest);
}

Error Refusal(const absl::Status& status) {
  const ErrorKind kind = absl::IsFailedPrecondition(status) ? kModelUnusable
                         : absl::IsNotFound(status)         ? kNotFound
                         : absl::IsUnimplemented(status)    ? kUnsupportedParameter
                                                            : kInvalidParameter;
  return {kind, std::string(status.message())};
}

}  // namespace

absl::StatusOr<config::ModelConfig> ModelConfigFrom(const v1::ModelSpec& spec) {
  config::ModelConfig config;
  const auto number = [](auto value) { return value == 0 ? std::string() : absl::StrCat(value); };
  std::string replicas = number(spec.replicas_min());
  if (spec.replicas_max() > spec.replicas_min())
    replicas = absl::StrCat(spec.replicas_min(), "..", spec.replicas_max());
  const std::pair<const char*, std::string> values[] = {
      {"name", Short(spec.name())},
      {"aliases", absl::StrJoin(spec.aliases(), ",")},
      {"path", spec.path()},
      {"task", spec.task()},
      {"tensor_parallel", spec.tensor_parallel()},
      {"replicas", replicas},
      {"dtype", spec.dtype()},
      {"max_model_len", number(spec.max_model_len())},
      {"memory_utilization", number(spec.memory_utilization())},
      {"kv_memory", number(spec.kv_memory_bytes())},
      {"max_num_seqs", number(spec.max_num_seqs())},
      {"goal", spec.goal()},
      {"priority", number(spec.priority())},
      {"chat_template", spec.chat_template()},
  };
  for (const auto& [name, text] : values) {
    const std::string key_name = name;
    const config::ModelKey* key = config::FindModelKey(key_name);
    const bool needed = key_name == "name" || key_name == "path";
    if (key == nullptr || (text.empty() && !needed)) continue;
    if (absl::Status status = key->read(text, config); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("model.", key_name, ": ", status.message()));
    }
  }
  return config;
}

// ---- a start ------------------------------------------------------------------------------------------------------

DeployedModels ApplyDeployments(const std::vector<config::ModelConfig>& file,
                                const std::vector<store::Deployment>& rows) {
  DeployedModels out;
  std::map<std::string, const store::Deployment*> on_top;
  for (const store::Deployment& row : rows) {
    if (row.base == BaseText(file, row.name)) {
      on_top[row.name] = &row;
    } else {
      out.superseded.push_back(row.name);
      out.told.push_back(absl::StrCat("models/", row.name,
                                      ": its entry in the configuration has changed, so that what was deployed at run "
                                      "time no longer counts"));
    }
  }
  std::map<std::string, std::string> owners;  // by name or alias
  const auto claim = [&](const config::ModelConfig& config) {
    owners.emplace(config.name, config.name);
    for (const std::string& alias : config.aliases) owners.emplace(alias, config.name);
  };
  for (const config::ModelConfig& config : file) {
    if (on_top.count(config.name) == 0) claim(config);
  }
  const auto add = [&](const store::Deployment& row) {
    auto config = ConfigFromText(row.spec);
    if (!config.ok()) {  // written by a version that knows more
      LOG(ERROR) << "models/" << row.name << " was deployed as this version cannot read: " << config.status().message();
      return;
    }
    if (const auto owner = owners.find(row.name); owner != owners.end()) {
      out.superseded.push_back(row.name);
      out.told.push_back(absl::StrCat("models/", row.name, ": the configuration gives this name to models/",
                                      owner->second, ", so that what was deployed at run time no longer counts"));
      return;
    }
    std::erase_if(config->aliases, [&](const std::string& alias) {
      const auto owner = owners.find(alias);
      if (owner == owners.end()) return false;
      out.told.push_back(absl::StrCat("models/", row.name, ": its alias ", alias, " is that of models/", owner->second,
                                      " now, as the configuration says"));
      return true;
    });
    claim(*config);
    out.models.push_back(*std::move(config));
    out.run_time.push_back(row.name);
  };
  for (const config::ModelConfig& config : file) {
    const auto row = on_top.find(config.name);
    if (row == on_top.end()) {
      out.models.push_back(config);
    } else if (!row->second->spec.empty()) {
      add(*row->second);
    }
  }
  for (const auto& [name, row] : on_top) {
    if (row->base.empty() && !row->spec.empty()) add(*row);
  }
  return out;
}

// ---- the thread ---------------------------------------------------------------------------------------------------

Deployments::Deployments(Parts parts, Settings settings, const std::vector<store::Deployment>& rows)
    : parts_(parts), settings_(std::move(settings)) {
  for (const store::Deployment& row : rows) rows_[row.name] = row;
}

Deployments::~Deployments() { Stop(); }

void Deployments::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Deployments::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    arrived_.SignalAll();
  }
  if (thread_.joinable()) thread_.join();
}

bool Deployments::Post(std::function<void()> job) {
  absl::MutexLock lock(&mu_);
  if (stopping_ || jobs_.size() >= kMostWaiting) return false;
  jobs_.push_back(std::move(job));
  arrived_.Signal();
  return true;
}

void Deployments::Run() {
  while (true) {
    std::function<void()> job;
    {
      absl::MutexLock lock(&mu_);
      while (jobs_.empty() && !stopping_) arrived_.Wait(&mu_);
      // What was taken on is ended: its caller waits for an answer.
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

void Deployments::Validate(Change change, Refused refused, Valid valid) {
  const bool taken = Post([this, change = std::move(change), refused, valid = std::move(valid)] {
    Error error;
    const auto target = Prepare(change, &error);
    if (!target.ok()) return refused(ToGrpc(error));
    valid(target->served.spec);
  });
  if (!taken) refused(ToGrpc({kQueueFull, "too many deployments wait; try again"}));
}

void Deployments::Make(Change change, core::OperationId operation) {
  const bool taken = Post([this, change = std::move(change), operation] { CarryOut(change, operation); });
  if (!taken) parts_.operations->Withdraw(operation, ToGrpc({kQueueFull, "too many deployments wait; try again"}));
}

// ---- one change ---------------------------------------------------------------------------------------------------

std::optional<Error> Deployments::Check(const core::ClusterState& state, const Change& change, Target* target) {
  // What is deployed has the name that it gives; what is changed may be called as its resource is.
  const core::Model* model = nullptr;
  if (!change.config.has_value()) {
    const auto found = ResolveModel(state, change.name);
    if (const auto* error = std::get_if<Error>(&found)) return *error;
    model = std::get<const core::Model*>(found);
  } else if (const auto named = state.model_names.find(change.config->name); named != state.model_names.end()) {
    model = &state.At(named->second);
  }
  if (model != nullptr && change.config.has_value() && model->spec.name != change.config->name) {
    return Error{kInvalidParameter,
                 absl::StrCat("the name ", change.config->name, " is an alias of models/", model->spec.name)};
  }
  const std::string now = model == nullptr ? "" : Etag(model->spec);
  if (auto error = CheckEtag(absl::StrCat("models/", Short(change.name)), now, change.mutation.etag())) return error;
  target->fresh = model == nullptr;
  target->id = model != nullptr ? model->id : core::ModelId{static_cast<uint32_t>(state.models.size())};
  return change.config.has_value() ? CheckShape(state, model, *target) : std::nullopt;
}

std::optional<Error> Deployments::CheckShape(const core::ClusterState& state, const core::Model* model,
                                             const Target& target) {
  const core::ModelSpec& spec = target.served.spec;
  if (model != nullptr && (model->spec.revision != spec.revision || model->spec.task != spec.task)) {
    return Error{
        kModelMismatch,
        absl::StrCat("models/", spec.name, " serves other weights (revision ", model->spec.revision.substr(0, 12),
                     ") than ", spec.path, " holds (", spec.revision.substr(0, 12),
                     "); deploy them under another name, then undeploy ", spec.name, " and give its name as an alias")};
  }
  if (target.fresh && state.models.size() >= kMostModels) {
    return Error{kNoCapacity, absl::StrCat(state.models.size(),
                                           " models were deployed since the scheduler started, the most there may be; "
                                           "restart it")};
  }
  for (const std::string& alias : spec.aliases) {
    const auto taken = state.model_names.find(alias);
    if (taken == state.model_names.end() || taken->second == target.id) continue;
    return Error{kInvalidParameter,
                 absl::StrCat("the alias ", alias, " is taken by models/", state.At(taken->second).spec.name)};
  }
  if (!state.settled || state.devices.empty()) return std::nullopt;
  core::Model probe;
  probe.id = target.id;
  probe.spec = spec;
  if (model != nullptr) probe.groups = model->groups;
  const core::PlacementReport report = core::WhyNot(state, probe);
  if (report.verdict == core::Verdict::kNever) return Error{kNeverFits, report.sentence};
  return std::nullopt;
}

absl::StatusOr<Deployments::Target> Deployments::Prepare(const Change& change, Error* error) {
  const auto refuse = [&](Error why) {
    *error = std::move(why);
    return absl::AbortedError("refused");
  };
  Target target;
  if (change.config.has_value()) {
    auto served = ModelCatalog::LoadModel(*change.config, settings_.search);
    if (!served.ok()) return refuse(Refusal(served.status()));
    target.served = *std::move(served);
  }
  std::promise<std::optional<Error>> checked;
  parts_.core->PostOwedQuery([&](const core::Core& core) { checked.set_value(Check(core.state(), change, &target)); });
  if (auto why = checked.get_future().get()) return refuse(*std::move(why));
  if (!change.config.has_value()) {
    const ServedModelPtr now = parts_.catalog->At(target.id);
    target.served = *now;
    if (change.replicas.has_value()) {
      target.served.config.replicas_min = target.served.spec.replicas_min = change.replicas->first;
      target.served.config.replicas_max = target.served.spec.replicas_max = change.replicas->second;
    }
  } else if (!target.fresh) {
    target.served.tokenizer = parts_.catalog->At(target.id)->tokenizer;  // the same files: no second copy
  }
  return target;
}

std::string Deployments::BaseOf(const std::string& name) const { return BaseText(settings_.file, name); }

store::Batch Deployments::RowFor(const Change& change, const Target& target) const {
  store::Batch batch;
  store::Deployment row;
  row.name = target.served.config.name;
  row.base = BaseOf(row.name);
  row.reason = change.mutation.reason();
  row.since_us = absl::ToUnixMicros(absl::Now());
  if (change.verb != "undeploy") row.spec = TextOf(target.served.config);
  const bool as_in_file = change.verb == "undeploy" ? row.base.empty() : HashRequest("model", row.spec) == row.base;
  if (as_in_file) {
    batch.forgotten_deployments.push_back(row.name);
  } else {
    batch.deployments.push_back(std::move(row));
  }
  return batch;
}

void Deployments::CarryOut(const Change& change, core::OperationId operation) {
  Error error;
  auto target = Prepare(change, &error);
  if (!target.ok()) return parts_.operations->Withdraw(operation, ToGrpc(error));
  const std::string name = target->served.config.name;
  store::Batch batch = RowFor(change, *target);
  const store::Batch rows = batch;
  store::Operation asked;
  asked.reason = change.mutation.reason();
  asked.asked_us = absl::ToUnixMicros(absl::Now());
  batch.operations.push_back(parts_.operations->Describe(operation, std::move(asked)));
  std::promise<absl::Status> written;
  const bool taken =
      parts_.store->Submit(std::move(batch), [&](const absl::Status& status) { written.set_value(status); });
  if (!taken) {
    return parts_.operations->Withdraw(operation, ToGrpc({kQueueFull, "too many operations wait for the disk"}));
  }
  if (const absl::Status status = written.get_future().get(); !status.ok()) {
    store::Batch before;
    if (const auto row = rows_.find(name); row != rows_.end()) {
      before.deployments.push_back(row->second);
    } else {
      before.forgotten_deployments.push_back(name);
    }
    parts_.store->Keep(std::move(before));
    return parts_.operations->Withdraw(operation, ToGrpc(StoreUnavailable(status)));
  }
  for (const std::string& forgotten : rows.forgotten_deployments) rows_.erase(forgotten);
  for (const store::Deployment& row : rows.deployments) rows_[row.name] = row;
  const core::ModelId id = target->id;
  core::Event event;
  if (change.verb == "undeploy") {
    parts_.catalog->Remove(id);
    event = core::UndeployRequested{id, change.mutation.reason()};
  } else if (change.replicas.has_value()) {
    event = core::ScaleRequested{id, change.replicas->first, change.replicas->second, change.mutation.reason()};
    parts_.catalog->Put(id, std::move(target->served));
  } else {
    event = core::DeployRequested{id, target->served.spec, change.mutation.reason()};
    parts_.catalog->Put(id, std::move(target->served));
  }
  parts_.core->PostOwed(std::move(event));
  // The next change is checked against what this one made.
  std::promise<void> seen;
  parts_.core->PostOwedQuery([&](const core::Core&) {
    parts_.intents->Finished(operation);
    seen.set_value();
  });
  seen.get_future().wait();
}

}  // namespace tandem::scheduler
