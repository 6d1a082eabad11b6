// What `tandemctl serve` means: vLLM's flags, and its variables where a flag is not given, as a configuration of ours.
// Pure: words in, text out.
#ifndef TANDEM_CLIENT_CTL_SERVE_PLAN_H_
#define TANDEM_CLIENT_CTL_SERVE_PLAN_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "config/cluster_config.h"

namespace tandem::client::ctl {

// As typed; empty: not given.
struct ServeFlags {
  std::string model;
  std::string host, port;
  std::string tensor_parallel_size, pipeline_parallel_size;
  std::string gpu_memory_utilization, max_model_len, max_num_seqs, dtype;
  std::vector<std::string> served_model_names;
  std::string chat_template;
  std::vector<std::string> api_keys;
  std::string device;             // vLLM's: auto, cpu, cuda
  std::string devices, replicas;  // ours: cpu:0,cpu:1 and N or MIN..MAX
  std::string state_dir, model_root, log_format, stop_grace;
  std::vector<std::string> others;  // words beyond these flags, as SpelledOut() of vllm_flags.h has them
};

struct ServePlan {
  std::string yaml;                // the whole configuration
  std::string api_keys;            // for the gateway, separated by commas; never in a file
  std::vector<std::string> notes;  // what was chosen or has no effect, one sentence each
  // Variables that have been read here, and must not be read again by the programs that are started.
  std::vector<std::string> consumed;
};

// INVALID_ARGUMENT names the flag or the variable: unknown, out of range, or asking for what is not served.
absl::StatusOr<ServePlan> PlanServe(const ServeFlags& flags, const config::Environment& environment);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_SERVE_PLAN_H_
