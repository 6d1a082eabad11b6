// Linear maps and norms by the names that files give them: a ".weight" and a ".bias" each. For the lists of tensors of
// encoders (encoder_tensors.h, clip_tensors.h); `reader` is what they take.
#ifndef TANDEM_WORKER_MODEL_TENSOR_VISITS_H_
#define TANDEM_WORKER_MODEL_TENSOR_VISITS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace tandem::worker {

// `columns`: of each name; they stand side by side.
template <typename Linear, typename Reader>
void VisitLinearTensors(const std::vector<std::string>& names, int64_t columns, int64_t inner, Linear* out,
                        Reader& reader) {
  std::vector<std::string> weight_names, bias_names;
  for (const std::string& name : names) {
    weight_names.push_back(name + ".weight");
    bias_names.push_back(name + ".bias");
  }
  reader.Matrix(weight_names, columns, inner, &out->weight);
  reader.Vector(bias_names, columns, &out->bias);
}

template <typename Norm, typename Reader>
void VisitNormTensors(const std::string& name, int64_t hidden, Norm* out, Reader& reader) {
  reader.Vector({name + ".weight"}, hidden, &out->weight);
  reader.Vector({name + ".bias"}, hidden, &out->bias);
}

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_MODEL_TENSOR_VISITS_H_
