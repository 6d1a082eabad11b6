// The command lines that people have for `vllm serve`: how they spell flags, and what the flags that are none of ours
// mean here. Each flag of vLLM that is known is honoured, or taken with a line that says why it needs nothing, or
// refused by name with what to do instead. Pure: words in, words out.
#ifndef TANDEM_CLIENT_CTL_VLLM_FLAGS_H_
#define TANDEM_CLIENT_CTL_VLLM_FLAGS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tandem::client::ctl {

// As vLLM's parser takes them: --max_model_len is --max-model-len, and -tp, -pp, -dp and -q, with a value after a space
// or "=", are their long names. Values stay as they are.
std::vector<std::string> SpelledOut(const std::vector<std::string>& arguments);

// What flags beyond those of ServeFlags ask for. Empty: not given.
struct ForeignFlags {
  std::string task;       // generate, embed, rerank
  std::string kv_memory;  // bytes of each rank
  std::string replicas;   // of --data-parallel-size
  std::string ssl_certificate, ssl_key, ssl_client_ca;
  std::string ssl_clients;       // off, optional, required
  bool no_prefix_cache = false;  // asked for by --no-enable-prefix-caching
  std::vector<std::string> strays;
  std::vector<std::string> notes;  // one sentence for each that has no effect
};

// INVALID_ARGUMENT names the first flag that is unknown, or refused and why. `words` are spelled out.
absl::Status ReadForeignFlags(const std::vector<std::string>& words, ForeignFlags& into);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_VLLM_FLAGS_H_
