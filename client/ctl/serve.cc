// tandemctl serve: one model with vLLM's flags, the entry point of a container that stands where vLLM stood.
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/ctl/serve_plan.h"
#include "client/ctl/up.h"
#include "client/ctl/verbs.h"

namespace tandem::client::ctl {
namespace {

// The configuration lies beside what outlives the scheduler, so that `tandemctl --config` finds this service.
absl::StatusOr<std::string> WriteConfig(const ServePlan& plan, const std::string& state_dir) {
  std::error_code error;
  std::filesystem::create_directories(state_dir, error);
  const std::string path = (std::filesystem::path(state_dir) / "serve.yaml").string();
  std::ofstream file(path, std::ios::trunc);
  file << plan.yaml;
  file.close();
  if (!file) return absl::FailedPreconditionError(absl::StrCat("cannot write ", path, "; choose another --state-dir"));
  chmod(path.c_str(), 0600);
  return path;
}

absl::Status Serve(const Context& context, const ServeFlags& flags, const std::string& env_file, bool print) {
  if (!env_file.empty()) {
    if (absl::Status status = ReadEnvFile(env_file); !status.ok()) return status;
  }
  auto plan = PlanServe(flags, config::ProcessEnvironment());
  if (!plan.ok()) return plan.status();
  for (const std::string& note : plan->notes) std::cerr << "tandemctl: " << note << "\n";
  for (const std::string& variable : plan->consumed) unsetenv(variable.c_str());
  if (!plan->api_keys.empty()) setenv("TANDEM_API_KEY", plan->api_keys.c_str(), 1);  // arguments can be seen by others
  if (print) {
    std::cout << plan->yaml << std::flush;
    return absl::OkStatus();
  }
  const auto defaults = config::LoadClusterConfig("");
  if (!defaults.ok()) return defaults.status();
  const auto path = WriteConfig(*plan, flags.state_dir.empty() ? defaults->config.state_dir : flags.state_dir);
  if (!path.ok()) return path.status();
  std::vector<config::FlagValue> over = context.dial_flags;
  if (!flags.stop_grace.empty()) over.push_back({"server.stop_grace", flags.stop_grace, "--stop-grace"});
  return RunUp(*path, over);
}

}  // namespace

void AddServe(CLI::App& app, Context& context) {
  const auto flags = std::make_shared<ServeFlags>();
  const auto env_file = std::make_shared<std::string>();
  const auto print = std::make_shared<bool>(false);
  CLI::App* serve = app.add_subcommand("serve", "Serve one model over HTTP and gRPC, with the flags of vLLM");
  serve->allow_extras();
  serve->fallthrough(false);
  serve->add_option("--model", flags->model, "A model folder, or a hub id in the local cache (VLLM_MODEL)");
  serve->add_option("--host", flags->host, "Where HTTP is served (127.0.0.1)");
  serve->add_option("--port", flags->port, "Its port (8000)");
  serve->add_option("--tensor-parallel-size,--tp", flags->tensor_parallel_size, "Ranks of a group (auto)");
  serve->add_option("--pipeline-parallel-size,--pp", flags->pipeline_parallel_size, "Only 1");
  serve->add_option("--gpu-memory-utilization", flags->gpu_memory_utilization, "Share of each device (0.9)");
  serve->add_option("--max-model-len", flags->max_model_len, "Context in tokens (what the model's files say)");
  serve->add_option("--max-num-seqs", flags->max_num_seqs, "Sequences in one step (64)");
  serve->add_option("--dtype", flags->dtype, "auto, float32, bfloat16, float16, half, float");
  serve->add_option("--served-model-name", flags->served_model_names, "What clients call it; several are aliases");
  serve->add_option("--api-key", flags->api_keys, "A key that clients must send, or several (VLLM_API_KEY)");
  serve->add_option("--chat-template", flags->chat_template, "A file; else the model's own");
  serve->add_option("--device", flags->device, "auto, cpu or cuda");
  serve->add_option("--devices", flags->devices, "Ours: cpu:0,cpu:1 or cuda:0 (all that there are)");
  serve->add_option("--replicas", flags->replicas, "Ours: N, or MIN..MAX by demand (1)");
  serve->add_option("--state-dir", flags->state_dir, "Ours: where what outlives the scheduler is kept");
  serve->add_option("--model-root", flags->model_root, "Ours: the folder that models may lie in");
  serve->add_option("--log-format", flags->log_format, "Ours: text or json");
  serve->add_option("--stop-grace", flags->stop_grace, "Ours: how long what runs gets to end after SIGTERM (30s)");
  serve->add_option("--env-file", *env_file, "Variables to read first, as in compose files");
  serve->add_flag("--print", *print, "Print the configuration that the flags mean, and start nothing");
  serve->callback([&context, serve, flags, env_file, print] {
    flags->others = serve->remaining();
    context.exit_code = Report(Serve(context, *flags, *env_file, *print));
  });
}

}  // namespace tandem::client::ctl
