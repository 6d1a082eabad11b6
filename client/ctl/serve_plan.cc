#include "client/ctl/serve_plan.h"

#include <algorithm>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "config/units.h"

namespace tandem::client::ctl {
namespace {

// Flags of vLLM beyond those of ServeFlags. What would change the answers is refused; what only tunes vLLM is taken and
// said to have no effect.
enum class Treatment { kNoEffect, kRefused };
struct Foreign {
  const char* name;
  bool value;  // takes one
  Treatment treatment;
  const char* why;
};
constexpr Foreign kForeign[] = {
    {"--trust-remote-code", false, Treatment::kNoEffect, "no code of a model is ever run"},
    {"--enforce-eager", false, Treatment::kNoEffect, "a step is the same with and without a graph"},
    {"--swap-space", true, Treatment::kNoEffect, "preempted requests are computed again"},
    {"--cpu-offload-gb", true, Treatment::kRefused, "weights are not offloaded"},
    {"--block-size", true, Treatment::kNoEffect, "a KV block has 16 tokens"},
    {"--seed", true, Treatment::kNoEffect, "each request has its own seed"},
    {"--load-format", true, Treatment::kNoEffect, "weights are read as safetensors"},
    {"--max-num-batched-tokens", true, Treatment::kNoEffect, "steps are cut by time; see scheduling.step_budget"},
    {"--enable-prefix-caching", false, Treatment::kNoEffect, "it is on already"},
    {"--enable-chunked-prefill", false, Treatment::kNoEffect, "it is on already"},
    {"--max-seq-len-to-capture", true, Treatment::kNoEffect, "graphs are captured as steps need them"},
    {"--max-parallel-loading-workers", true, Treatment::kNoEffect, "ranks load at once, each its own part"},
    {"--generation-config", true, Treatment::kRefused, "defaults of sampling are those of the model's folder"},
    {"--chat-template-content-format", true, Treatment::kNoEffect, "which form a template reads is found at load"},
    {"--enable-log-requests", false, Treatment::kNoEffect, "requests are never logged"},
    {"--disable-uvicorn-access-log", false, Treatment::kNoEffect, "there is no uvicorn"},
    {"--enable-prompt-tokens-details", false, Treatment::kNoEffect, "usage has them always"},
    {"--disable-log-requests", false, Treatment::kNoEffect, "requests are never logged"},
    {"--no-enable-log-requests", false, Treatment::kNoEffect, "requests are never logged"},
    {"--disable-log-stats", false, Treatment::kNoEffect, "numbers are served at /metrics, not logged"},
    {"--max-log-len", true, Treatment::kNoEffect, "prompts are never logged"},
    {"--uvicorn-log-level", true, Treatment::kNoEffect, "there is no uvicorn"},
    {"--distributed-executor-backend", true, Treatment::kNoEffect, "one process a device, always"},
    {"--disable-custom-all-reduce", false, Treatment::kNoEffect, "it does not exist here"},
    {"--worker-use-ray", false, Treatment::kNoEffect, "there is no Ray"},
    {"--guided-decoding-backend", true, Treatment::kNoEffect, "guided decoding is refused request by request"},
    {"--response-role", true, Treatment::kNoEffect, "answers have the role assistant"},
    {"--download-dir", true, Treatment::kNoEffect, "nothing is ever downloaded"},
    {"--tokenizer", true, Treatment::kRefused, "the model's own tokenizer is used"},
    {"--tokenizer-mode", true, Treatment::kNoEffect, "there is one tokenizer"},
    {"--revision", true, Treatment::kRefused, "name the folder of that revision as --model"},
    {"--quantization", true, Treatment::kRefused, "weights are served as float32, bfloat16 or float16"},
    {"-q", true, Treatment::kRefused, "weights are served as float32, bfloat16 or float16"},
    {"--kv-cache-dtype", true, Treatment::kRefused, "the KV cache has the model's type"},
    {"--enable-lora", false, Treatment::kRefused, "LoRA is not served"},
    {"--lora-modules", true, Treatment::kRefused, "LoRA is not served"},
    {"--speculative-config", true, Treatment::kRefused, "speculative decoding is not served"},
    {"--data-parallel-size", true, Treatment::kRefused, "use --replicas"},
    {"--ssl-keyfile", true, Treatment::kRefused, "HTTP is plain; put a proxy with TLS before it"},
    {"--ssl-certfile", true, Treatment::kRefused, "HTTP is plain; put a proxy with TLS before it"},
    {"--root-path", true, Treatment::kRefused, "routes have no prefix"},
    {"--enable-auto-tool-choice", false, Treatment::kNoEffect, "calls are found in answers wherever tools are offered"},
    {"--tool-call-parser", true, Treatment::kNoEffect, "calls are found in whatever form the model writes them"},
    {"--reasoning-parser", true, Treatment::kRefused, "reasoning is not parsed out of answers"},
    {"--allowed-origins", true, Treatment::kRefused, "start tandem-gateway with --allow-origin for browsers"},
};

const Foreign* FindForeign(absl::string_view name) {
  for (const Foreign& foreign : kForeign) {
    if (name == foreign.name) return &foreign;
  }
  return nullptr;
}

absl::Status ReadOthers(const std::vector<std::string>& others, std::vector<std::string>& notes) {
  for (size_t i = 0; i < others.size(); ++i) {
    const std::pair<std::string, std::string> split = absl::StrSplit(others[i], absl::MaxSplits('=', 1));
    const Foreign* foreign = FindForeign(split.first);
    if (foreign == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(
          others[i].substr(0, 64), absl::StartsWith(others[i], "-") ? ": neither ours nor a flag of vLLM that is known"
                                                                    : ": does not belong to any flag"));
    }
    if (foreign->treatment == Treatment::kRefused) {
      return absl::InvalidArgumentError(absl::StrCat(foreign->name, " is not served: ", foreign->why));
    }
    notes.push_back(absl::StrCat(foreign->name, " has no effect: ", foreign->why));
    if (foreign->value && !absl::StrContains(others[i], '=')) ++i;
  }
  return absl::OkStatus();
}

// In double quotes, so that no value can be read as anything but text.
std::string Yaml(const std::string& text) {
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}}), "\"");
}

bool IsName(const std::string& text) {
  return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(c) || absl::StrContains("._:/@+-", c);
  });
}

class Planner {
 public:
  Planner(const ServeFlags& flags, const config::Environment& environment) : flags_(flags), environment_(environment) {}

  absl::StatusOr<ServePlan> Run() {
    for (absl::Status status : {ReadOthers(flags_.others, plan_.notes), Model(), Door(), Parallel(), Memory()}) {
      if (!status.ok()) return status;
    }
    plan_.api_keys = Value(absl::StrJoin(flags_.api_keys, ","), "VLLM_API_KEY");
    Write();
    return std::move(plan_);
  }

 private:
  // The flag, else the variable. A variable without a value is not set.
  std::string Value(const std::string& flag, const char* variable) {
    const auto found = environment_.find(variable);
    if (found != environment_.end()) plan_.consumed.push_back(variable);
    return !flag.empty() || found == environment_.end() ? flag : found->second;
  }

  absl::Status Model() {
    path_ = Value(flags_.model, "VLLM_MODEL");
    if (path_.empty())
      return absl::InvalidArgumentError("--model: which model? A folder, or a hub id in the local cache");
    std::vector<std::string> names = flags_.served_model_names;
    if (names.empty()) {
      // vLLM would know it by its path alone. A client that asks for another name is in most stacks one that was set up
      // for this server.
      aliases_ = {"*"};
      name_ = IsName(path_) ? path_ : "model";
      plan_.notes.push_back(absl::StrCat("the model is ", name_,
                                         " and answers to any other name too; with "
                                         "--served-model-name only to that"));
    } else {
      for (const std::string& name : names) {
        if (name != "*" && !IsName(name)) {
          return absl::InvalidArgumentError(
              absl::StrCat("--served-model-name: \"", name.substr(0, 140), "\" is not a name"));
        }
        if (name_.empty() && name != "*") {
          name_ = name;
        } else {
          aliases_.push_back(name);
        }
      }
      if (name_.empty()) name_ = IsName(path_) ? path_ : "model";
    }
    dtype_ = flags_.dtype;
    const std::map<std::string, std::string> words = {{"", "auto"}, {"half", "float16"}, {"float", "float32"}};
    if (const auto word = words.find(dtype_); word != words.end()) dtype_ = word->second;
    return absl::OkStatus();
  }

  absl::Status Door() {
    std::string host = Value(flags_.host, "VLLM_HOST");
    const std::string port = Value(flags_.port, "VLLM_PORT");
    if (host.empty()) {
      host = "127.0.0.1";
      plan_.notes.push_back("HTTP is served on loopback; --host 0.0.0.0 serves other machines too");
    }
    int number = 8000;
    if (!port.empty() && (!absl::SimpleAtoi(port, &number) || number < 0 || number > 65535)) {
      return absl::InvalidArgumentError(absl::StrCat("--port: \"", port.substr(0, 32), "\" is not a port"));
    }
    beyond_ = host != "127.0.0.1" && host != "localhost" && host != "::1";
    http_ = absl::StrContains(host, ':') ? absl::StrCat("[", host, "]:", number) : absl::StrCat(host, ":", number);
    return absl::OkStatus();
  }

  absl::Status Parallel() {
    const std::string stages = Value(flags_.pipeline_parallel_size, "VLLM_PIPELINE_PARALLEL_SIZE");
    if (!stages.empty() && stages != "1") {
      return absl::InvalidArgumentError(absl::StrCat("--pipeline-parallel-size: ", stages.substr(0, 32),
                                                     " is not served; use 1 and --tensor-parallel-size"));
    }
    tensor_parallel_ = Value(flags_.tensor_parallel_size, "VLLM_TENSOR_PARALLEL_SIZE");
    if (tensor_parallel_.empty()) tensor_parallel_ = "auto";
    devices_ = flags_.devices;
    int ranks = 1;
    if (tensor_parallel_ != "auto" && (!absl::SimpleAtoi(tensor_parallel_, &ranks) || ranks < 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--tensor-parallel-size: \"", tensor_parallel_.substr(0, 32), "\" is not a number from 1"));
    }
    if (flags_.device == "cpu" && devices_.empty()) {
      std::vector<std::string> cpus;
      for (int i = 0; i < ranks; ++i) cpus.push_back(absl::StrCat("cpu:", i));
      devices_ = absl::StrJoin(cpus, ",");
    } else if (!flags_.device.empty() && flags_.device != "auto" && flags_.device != "cuda" && flags_.device != "cpu") {
      return absl::InvalidArgumentError(
          absl::StrCat("--device: \"", flags_.device.substr(0, 32), "\": auto, cpu or cuda"));
    }
    return absl::OkStatus();
  }

  absl::Status Memory() {
    utilization_ = Value(flags_.gpu_memory_utilization, "VLLM_GPU_MEMORY_UTILIZATION");
    // 0.0 is how CPU profiles of vLLM say "no GPU memory".
    double share = 0;
    if (absl::SimpleAtod(utilization_, &share) && share == 0) utilization_.clear();
    if (!utilization_.empty() && !config::ParseReal(utilization_, 0, 1).ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--gpu-memory-utilization: \"", utilization_.substr(0, 32), "\" is not in (0, 1]"));
    }
    max_model_len_ = Value(flags_.max_model_len, "VLLM_MAX_MODEL_LEN");
    max_num_seqs_ = Value(flags_.max_num_seqs, "VLLM_MAX_NUM_SEQS");
    for (const auto& [flag, text] :
         {std::pair("--max-model-len", max_model_len_), std::pair("--max-num-seqs", max_num_seqs_)}) {
      int number = 0;
      if (!text.empty() && (!absl::SimpleAtoi(text, &number) || number < 1)) {
        return absl::InvalidArgumentError(absl::StrCat(flag, ": \"", text.substr(0, 32), "\" is not a number from 1"));
      }
    }
    return absl::OkStatus();
  }

  void Write() {
    std::string& yaml = plan_.yaml;
    yaml = "# Written by `tandemctl serve` from its flags; the next start writes it anew.\n";
    if (!flags_.state_dir.empty()) absl::StrAppend(&yaml, "state_dir: ", Yaml(flags_.state_dir), "\n");
    if (!flags_.model_root.empty()) absl::StrAppend(&yaml, "model_root: ", Yaml(flags_.model_root), "\n");
    absl::StrAppend(&yaml, "server:\n  http: ", Yaml(http_), "\n");
    if (beyond_)
      absl::StrAppend(&yaml, "  plaintext_beyond_loopback: true  # --host said so; only HTTP listens there\n");
    if (!devices_.empty() || !utilization_.empty()) absl::StrAppend(&yaml, "devices:\n");
    if (!devices_.empty()) {
      std::vector<std::string> list;
      for (absl::string_view device : absl::StrSplit(devices_, ',', absl::SkipWhitespace())) {
        list.push_back(Yaml(std::string(absl::StripAsciiWhitespace(device))));
      }
      absl::StrAppend(&yaml, "  select: [", absl::StrJoin(list, ", "), "]\n");
    }
    if (!utilization_.empty()) absl::StrAppend(&yaml, "  memory_utilization: ", utilization_, "\n");
    absl::StrAppend(&yaml, "metrics: {compat: [vllm]}\n");
    if (!flags_.log_format.empty()) absl::StrAppend(&yaml, "log: {format: ", Yaml(flags_.log_format), "}\n");
    std::vector<std::string> aliases;
    for (const std::string& alias : aliases_) aliases.push_back(Yaml(alias));
    absl::StrAppend(&yaml, "models:\n  - name: ", Yaml(name_), "\n    path: ", Yaml(path_),
                    "\n    tensor_parallel: ", tensor_parallel_, "\n    dtype: ", dtype_, "\n");
    if (!aliases.empty()) absl::StrAppend(&yaml, "    aliases: [", absl::StrJoin(aliases, ", "), "]\n");
    if (!max_model_len_.empty()) absl::StrAppend(&yaml, "    max_model_len: ", max_model_len_, "\n");
    if (!max_num_seqs_.empty()) absl::StrAppend(&yaml, "    max_num_seqs: ", max_num_seqs_, "\n");
    if (!flags_.chat_template.empty()) absl::StrAppend(&yaml, "    chat_template: ", Yaml(flags_.chat_template), "\n");
    if (const size_t dots = flags_.replicas.find(".."); dots != std::string::npos) {
      absl::StrAppend(&yaml, "    replicas: {min: ", flags_.replicas.substr(0, dots),
                      ", max: ", flags_.replicas.substr(dots + 2), "}\n");
    } else if (!flags_.replicas.empty()) {
      absl::StrAppend(&yaml, "    replicas: ", flags_.replicas, "\n");
    }
  }

  const ServeFlags& flags_;
  const config::Environment& environment_;
  ServePlan plan_;
  std::string path_, name_, dtype_, http_, tensor_parallel_, devices_, utilization_, max_model_len_, max_num_seqs_;
  std::vector<std::string> aliases_;
  bool beyond_ = false;
};

}  // namespace

absl::StatusOr<ServePlan> PlanServe(const ServeFlags& flags, const config::Environment& environment) {
  return Planner(flags, environment).Run();
}

}  // namespace tandem::client::ctl
