// Rotary positions: pairs (i, i + head_dim/2) of a query or key are turned by an angle that grows with the position.
#ifndef TANDEM_WORKER_EXEC_OPS_ROPE_H_
#define TANDEM_WORKER_EXEC_OPS_ROPE_H_

#include <cstdint>
#include <vector>

#include "base/model/model_config.h"

namespace tandem::worker {

class Rope {
 public:
  Rope(const model::RopeConfig& config, int32_t head_dim);

  // The cosines and then the sines of one position, head_dim floats.
  // Computed here and not by the C library, whose last bit differs between CPUs.
  void Angles(int64_t position, float* angles) const;

  // Turns `heads` vectors of head_dim that lie one after the other.
  void Apply(const float* angles, int64_t heads, float* vectors) const;

  const std::vector<float>& frequencies() const { return frequencies_; }

 private:
  const int32_t head_dim_;
  std::vector<float> frequencies_;  // radians per position, head_dim / 2
  float magnitude_ = 1.0f;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_OPS_ROPE_H_
