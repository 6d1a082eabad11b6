// Two RTX 3090 on an NVLink bridge, and three models with a claimed speedup over one card: the case by which
// `tensor_parallel: auto` is judged, in its test and in bench/auto_degree_bench.
#ifndef TANDEM_PLACEMENT_PLANNER_DUAL_3090_H_
#define TANDEM_PLACEMENT_PLANNER_DUAL_3090_H_

#include <vector>

#include "placement/planner/auto_degree.h"

namespace tandem::placement {

struct ClaimedModel {
  ModelDemand model;  // shapes for one rank and for two
  int claim_permille;
};

// `stored_bytes`: all weights; `read_bytes`: without the embedding table, of which a step reads a few rows.
inline ClaimedModel Claimed(const char* name, int layers, int hidden, int64_t stored_bytes, int64_t read_bytes,
                            int64_t kv_bytes_per_token, int claim_permille) {
  // Activations, the logits, CUDA's context and the communicator's buffers.
  constexpr int64_t kWorkspace = int64_t{512} << 20;
  ClaimedModel claimed;
  claimed.claim_permille = claim_permille;
  ModelDemand& model = claimed.model;
  model.name = name;
  model.parameters = read_bytes / 2;
  model.weight_bytes = read_bytes;
  model.workload.layers = layers;
  model.workload.hidden = hidden;
  // Chat that fits the 1,024 positions of the smallest of the models.
  model.workload.prompt_tokens = 384;
  model.workload.output_tokens = 128;
  for (const int ranks : {1, 2}) {
    Shape shape;
    shape.ranks = ranks;
    shape.fixed_bytes = stored_bytes / ranks + kWorkspace;
    shape.kv_bytes_per_token = kv_bytes_per_token / ranks;
    model.shapes.push_back(shape);
  }
  return claimed;
}

// 16-bit weights. From the models' configurations.
inline std::vector<ClaimedModel> ClaimedModels() {
  return {
      // Its output layer is the embedding table, which a step reads.
      Claimed("DialoGPT-medium", 24, 1024, 710'000'000, 710'000'000, 98'304, 1800),
      Claimed("Llama-2-7B", 32, 4096, 13'477'000'000, 13'215'000'000, 524'288, 1900),
      Claimed("Mistral-7B", 32, 4096, 14'483'000'000, 14'221'000'000, 131'072, 1850),
  };
}

// Nine tenths of each card; the ring of both has all four links.
inline EqualDevices Dual3090() {
  EqualDevices devices;
  devices.chip = FindChip("RTX3090");
  devices.count = 2;
  devices.usable_bytes = devices.chip->memory_bytes / 10 * 9;
  devices.rings.resize(2);
  devices.rings[1].order = {0, 1};
  devices.rings[1].mbps = devices.chip->nvlink_mbps * 4;
  devices.rings[1].hop = HopClass::kNvLink;
  return devices;
}

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_DUAL_3090_H_
