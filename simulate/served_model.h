// The model that the simulated fleet serves: what the core is told of it, and what a step of it costs.
#ifndef TANDEM_SIMULATE_SERVED_MODEL_H_
#define TANDEM_SIMULATE_SERVED_MODEL_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "placement/planner/step_model.h"
#include "scheduler/core/types.h"

namespace tandem::simulate {

struct ModelChoice {
  std::string name = "llama-3.1-8b";  // of KnownModels(), or a folder with a config.json
  int tensor_parallel = 0;            // 0: auto
  int32_t max_model_len = 0;          // 0: as long as its longest request, at most what the model allows
  int32_t max_sequences = 256;        // of one engine
  int32_t max_batch_tokens = 2048;    // of one step
};

struct ServedModel {
  core::ModelSpec spec;  // bytes by the formula of CUDA devices; replicas are the fleet's to set
  placement::ModelWork work;
};

// `longest`: tokens of the longest request that will come. Errors name the model.
absl::StatusOr<ServedModel> DescribeModel(const ModelChoice& choice, int64_t longest);

// Shapes of public models that need no file, for messages.
absl::string_view KnownModels();

}  // namespace tandem::simulate

#endif  // TANDEM_SIMULATE_SERVED_MODEL_H_
