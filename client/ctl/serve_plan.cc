#include "client/ctl/serve_plan.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "client/ctl/vllm_flags.h"
#include "config/units.h"

namespace tandem::client::ctl {
namespace {

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
    for (absl::Status status : {Foreign(), Model(), Door(), Tls(), Parallel(), Memory()}) {
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

  absl::Status Foreign() {
    if (absl::Status status = ReadForeignFlags(flags_.others, foreign_); !status.ok()) return status;
    plan_.notes = std::move(foreign_.notes);
    const size_t known = flags_.model.empty() ? 1 : 0;  // `vllm serve MODEL` names it without a flag
    if (foreign_.strays.size() <= known) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(foreign_.strays[known].substr(0, 64), ": does not belong to any flag"));
  }

  absl::Status Model() {
    const std::string given = foreign_.strays.empty() ? flags_.model : foreign_.strays.front();
    path_ = Value(given, "VLLM_MODEL");
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

  // Files that the gateway shows itself with, as vLLM's are named.
  absl::Status Tls() {
    if (foreign_.ssl_certificate.empty() != foreign_.ssl_key.empty()) {
      return absl::InvalidArgumentError("--ssl-certfile and --ssl-keyfile belong together; only one of them is given");
    }
    const bool asks =
        !foreign_.ssl_client_ca.empty() || (!foreign_.ssl_clients.empty() && foreign_.ssl_clients != "off");
    if (!asks || !foreign_.ssl_certificate.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("clients' certificates need TLS: give --ssl-certfile and --ssl-keyfile, too");
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
    if (beyond_ && foreign_.ssl_certificate.empty())
      absl::StrAppend(&yaml, "  plaintext_beyond_loopback: true  # --host said so; only HTTP listens there\n");
    WriteTls();
    if (!devices_.empty() || !utilization_.empty()) absl::StrAppend(&yaml, "devices:\n");
    if (!devices_.empty()) {
      std::vector<std::string> list;
      for (absl::string_view device : absl::StrSplit(devices_, ',', absl::SkipWhitespace())) {
        list.push_back(Yaml(std::string(absl::StripAsciiWhitespace(device))));
      }
      absl::StrAppend(&yaml, "  select: [", absl::StrJoin(list, ", "), "]\n");
    }
    if (!utilization_.empty()) absl::StrAppend(&yaml, "  memory_utilization: ", utilization_, "\n");
    if (foreign_.no_prefix_cache) absl::StrAppend(&yaml, "scheduling: {prefix_cache: false}\n");
    absl::StrAppend(&yaml, "metrics: {compat: [vllm]}\n");
    if (!flags_.log_format.empty()) absl::StrAppend(&yaml, "log: {format: ", Yaml(flags_.log_format), "}\n");
    std::vector<std::string> aliases;
    for (const std::string& alias : aliases_) aliases.push_back(Yaml(alias));
    absl::StrAppend(&yaml, "models:\n  - name: ", Yaml(name_), "\n    path: ", Yaml(path_),
                    "\n    tensor_parallel: ", tensor_parallel_, "\n    dtype: ", dtype_, "\n");
    if (!aliases.empty()) absl::StrAppend(&yaml, "    aliases: [", absl::StrJoin(aliases, ", "), "]\n");
    if (!max_model_len_.empty()) absl::StrAppend(&yaml, "    max_model_len: ", max_model_len_, "\n");
    if (!max_num_seqs_.empty()) absl::StrAppend(&yaml, "    max_num_seqs: ", max_num_seqs_, "\n");
    if (!foreign_.task.empty()) absl::StrAppend(&yaml, "    task: ", foreign_.task, "\n");
    if (!foreign_.kv_memory.empty()) absl::StrAppend(&yaml, "    kv_memory: ", Yaml(foreign_.kv_memory), "\n");
    if (!flags_.chat_template.empty())
      absl::StrAppend(&yaml, "    chat_template: ", YamlPath(flags_.chat_template), "\n");
    const std::string& replicas = flags_.replicas.empty() ? foreign_.replicas : flags_.replicas;
    if (const size_t dots = replicas.find(".."); dots != std::string::npos) {
      absl::StrAppend(&yaml, "    replicas: {min: ", Yaml(replicas.substr(0, dots)),
                      ", max: ", Yaml(replicas.substr(dots + 2)), "}\n");
    } else if (!replicas.empty()) {
      absl::StrAppend(&yaml, "    replicas: ", Yaml(replicas), "\n");
    }
  }

  // The file that is written lies in another folder than the one that the flags were typed in.
  static std::string YamlPath(const std::string& path) { return Yaml(std::filesystem::absolute(path).string()); }

  void WriteTls() {
    if (foreign_.ssl_certificate.empty()) return;
    absl::StrAppend(&plan_.yaml, "security:\n  http:\n    certificate: ", YamlPath(foreign_.ssl_certificate),
                    "\n    key: ", YamlPath(foreign_.ssl_key), "\n");
    if (!foreign_.ssl_client_ca.empty()) {
      absl::StrAppend(&plan_.yaml, "    client_ca: ", YamlPath(foreign_.ssl_client_ca), "\n");
    }
    // As vLLM: a CA alone asks nobody for a certificate.
    const std::string& clients = foreign_.ssl_clients;
    absl::StrAppend(&plan_.yaml, "    client_certificates: ", Yaml(clients.empty() ? "off" : clients), "\n");
  }

  const ServeFlags& flags_;
  const config::Environment& environment_;
  ServePlan plan_;
  ForeignFlags foreign_;
  std::string path_, name_, dtype_, http_, tensor_parallel_, devices_, utilization_, max_model_len_, max_num_seqs_;
  std::vector<std::string> aliases_;
  bool beyond_ = false;
};

}  // namespace

absl::StatusOr<ServePlan> PlanServe(const ServeFlags& flags, const config::Environment& environment) {
  return Planner(flags, environment).Run();
}

}  // namespace tandem::client::ctl
