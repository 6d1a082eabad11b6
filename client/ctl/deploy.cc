// tandemctl deploy, undeploy, scale: which models are served, in which shape, by how many replicas, while they are
// served.
#include <iostream>
#include <memory>
#include <optional>
#include <random>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/ctl/names.h"
#include "client/ctl/tables.h"
#include "client/ctl/verbs.h"
#include "config/units.h"

namespace tandem::client::ctl {
namespace {

struct ModelFlags {
  std::string name;  // or the file
  std::string replicas, reason, etag, key, timeout = "10m";
  bool dry_run = false, detach = false;
};

// A call that breaks and is made again must not be done twice.
std::string FreshKey() {
  std::random_device random;
  return absl::StrFormat("tandemctl-%08x%08x", random(), random());
}

void Fill(const ModelFlags& flags, v1::Mutation* mutation) {
  mutation->set_reason(flags.reason);
  mutation->set_validate_only(flags.dry_run);
  mutation->set_etag(flags.etag);
  mutation->set_idempotency_key(flags.key.empty() ? FreshKey() : flags.key);
}

v1::ModelSpec SpecFrom(const config::ModelConfig& config) {
  v1::ModelSpec spec;
  spec.set_name(absl::StrCat("models/", config.name));  // as a resource: a name may itself begin so
  for (const std::string& alias : config.aliases) spec.add_aliases(alias);
  spec.set_path(config.path);
  spec.set_task(config.task);
  spec.set_tensor_parallel(config.tensor_parallel == 0 ? "auto" : absl::StrCat(config.tensor_parallel));
  spec.set_replicas_min(static_cast<uint32_t>(config.replicas_min));
  spec.set_replicas_max(static_cast<uint32_t>(config.replicas_max));
  spec.set_dtype(config.dtype);
  spec.set_max_model_len(static_cast<uint32_t>(config.max_model_len));
  spec.set_memory_utilization(config.memory_utilization);
  spec.set_max_num_seqs(static_cast<uint32_t>(config.max_num_seqs));
  spec.set_priority(config.priority);
  spec.set_chat_template(config.chat_template);
  spec.set_kv_memory_bytes(config.kv_memory_bytes);
  spec.set_goal(config.goal);
  return spec;
}

std::string ModelName(const std::string& text) {
  const auto name = ParseName(text, Kind::kModel);
  return name.ok() ? name->name : text;
}

// The model's resource name; what is asked for where the scheduler knows none of it.
std::string ResourceOf(AdminClient& admin, const std::string& asked) {
  const auto model = admin.GetModel(asked);
  return model.ok() ? absl::StrCat("models/", model->name()) : asked;
}

// Says each change of what is waited for, once a change. `Missing` gives it in one sentence; empty: done.
template <typename Missing>
absl::Status Await(const std::string& timeout, Missing&& missing) {
  const auto patience = config::ParseDuration(timeout);
  if (!patience.ok()) return absl::InvalidArgumentError(absl::StrCat("--timeout: ", patience.status().message()));
  const absl::Time deadline = absl::Now() + *patience;
  std::string said;
  while (true) {
    const absl::StatusOr<std::string> waits = missing();
    if (!waits.ok() || waits->empty()) return waits.status();
    if (*waits != said) std::cout << (said = *waits) << std::endl;
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError(absl::StrCat("after ", timeout, " still ", *waits, "; it goes on"));
    }
    absl::SleepFor(absl::Milliseconds(200));
  }
}

// Until all replicas of the present shape are ready and none of an earlier one serves.
absl::Status AwaitServed(AdminClient& admin, const std::string& name, const std::string& timeout) {
  return Await(timeout, [&]() -> absl::StatusOr<std::string> {
    const auto model = admin.GetModel(name);
    if (!model.ok()) return model.status();
    const uint32_t ready = model->replicas_ready() - model->replicas_old();
    if (ready == model->replicas_wanted() && model->replicas_old() == 0) return "";
    return absl::StrCat(
        ready, " of ", model->replicas_wanted(), " replicas ready",
        model->replicas_old() > 0 ? absl::StrCat(", ", model->replicas_old(), " of an earlier shape") : "",
        model->waits_for().empty() ? "" : absl::StrCat(": ", model->waits_for()));
  });
}

absl::Status Deploy(const Context& context, const ModelFlags& flags) {
  // The environment configures the service, not what is deployed to it.
  const auto loaded = config::LoadClusterConfig(flags.name, {}, {{"HOME", "/"}});
  if (!loaded.ok()) return loaded.status();
  if (loaded->config.models.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(flags.name, " names no model; write a list under models:"));
  }
  const auto admin = context.ConnectAdmin();
  if (!admin.ok()) return admin.status();
  for (const config::ModelConfig& config : loaded->config.models) {
    v1::DeployModelRequest request;
    *request.mutable_model() = SpecFrom(config);
    Fill(flags, request.mutable_mutation());
    const auto response = (*admin)->DeployModel(request);
    if (!response.ok()) return response.status();
    std::cout << response->message() << std::endl;
  }
  if (flags.dry_run || flags.detach) return absl::OkStatus();
  for (const config::ModelConfig& config : loaded->config.models) {
    if (absl::Status status = AwaitServed(**admin, absl::StrCat("models/", config.name), flags.timeout); !status.ok())
      return status;
    std::cout << config.name << " is served" << std::endl;
  }
  return absl::OkStatus();
}

absl::Status Undeploy(const Context& context, const ModelFlags& flags) {
  const auto admin = context.ConnectAdmin();
  if (!admin.ok()) return admin.status();
  v1::UndeployModelRequest request;
  request.set_name(ModelName(flags.name));
  Fill(flags, request.mutable_mutation());
  const std::string resource = ResourceOf(**admin, request.name());
  const auto response = (*admin)->UndeployModel(request);
  if (!response.ok()) return response.status();
  std::cout << response->message() << std::endl;
  if (flags.dry_run || flags.detach) return absl::OkStatus();
  const absl::Status gone = Await(flags.timeout, [&]() -> absl::StatusOr<std::string> {
    const auto models = (*admin)->ListModels();
    if (!models.ok()) return models.status();
    for (const v1::Model& model : models->models()) {
      if (model.leaving() && model.name() == ShortName(resource)) {
        return absl::StrCat("waiting for ", model.groups_size(), model.groups_size() == 1 ? " group" : " groups",
                            " to leave");
      }
    }
    return "";
  });
  if (gone.ok()) std::cout << ShortName(resource) << " is gone" << std::endl;
  return gone;
}

absl::Status Scale(const Context& context, const ModelFlags& flags) {
  const size_t dots = flags.replicas.find("..");
  const std::string least = flags.replicas.substr(0, dots);
  const std::string most = dots == std::string::npos ? least : flags.replicas.substr(dots + 2);
  v1::ScaleModelRequest request;
  uint32_t min = 0, max = 0;
  if (!absl::SimpleAtoi(least, &min) || !absl::SimpleAtoi(most, &max)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--replicas: \"", flags.replicas, "\" is neither a number nor a range such as 1..4"));
  }
  request.set_name(ModelName(flags.name));
  request.set_replicas(min);
  request.set_replicas_max(max);
  Fill(flags, request.mutable_mutation());
  const auto admin = context.ConnectAdmin();
  if (!admin.ok()) return admin.status();
  const auto response = (*admin)->ScaleModel(request);
  if (!response.ok()) return response.status();
  std::cout << response->message() << std::endl;
  if (flags.dry_run || flags.detach) return absl::OkStatus();
  const std::string resource = ResourceOf(**admin, request.name());
  if (absl::Status status = AwaitServed(**admin, resource, flags.timeout); !status.ok()) return status;
  std::cout << ShortName(resource) << " has the replicas that it wants" << std::endl;
  return absl::OkStatus();
}

using Verb = absl::Status (*)(const Context&, const ModelFlags&);

CLI::App* AddVerb(CLI::App& app, Context& context, const std::shared_ptr<ModelFlags>& flags, const char* name,
                  const char* help, Verb verb) {
  CLI::App* command = app.add_subcommand(name, help);
  command->add_option("--reason", flags->reason, "Why; kept and shown");
  command->add_option("--etag", flags->etag, "Refuse unless the model still has it");
  command->add_option("--idempotency-key", flags->key, "A repeated call with it is the same call");
  command->add_option("--timeout", flags->timeout, "How long to wait for the end; exit 3 after it")
      ->capture_default_str();
  command->add_flag("--detach", flags->detach, "Do not wait for the end");
  command->add_flag("--dry-run", flags->dry_run, "Check and say, change nothing");
  command->callback([&context, flags, verb] { context.exit_code = Report(verb(context, *flags)); });
  return command;
}

}  // namespace

void AddDeploy(CLI::App& app, Context& context) {
  const auto deploy = std::make_shared<ModelFlags>();
  AddVerb(app, context, deploy, "deploy", "Serve the models of a file; a name that is served gets the new shape",
          Deploy)
      ->add_option("-f,--file", deploy->name, "YAML with a list under models:, as in the configuration")
      ->required();
  const auto undeploy = std::make_shared<ModelFlags>();
  AddVerb(app, context, undeploy, "undeploy", "Serve a model no longer; what runs ends, what waits is refused",
          Undeploy)
      ->add_option("model", undeploy->name, "Its name")
      ->required();
  const auto scale = std::make_shared<ModelFlags>();
  CLI::App* command = AddVerb(app, context, scale, "scale", "Change how many replicas of a model there are", Scale);
  command->add_option("model", scale->name, "Its name")->required();
  command->add_option("--replicas", scale->replicas, "N, or MIN..MAX by demand")->required();
}

}  // namespace tandem::client::ctl
