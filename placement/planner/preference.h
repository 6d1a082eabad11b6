// `tensor_parallel: auto` inside a plan: in which order the degrees of a model are tried.
#ifndef TANDEM_PLACEMENT_PLANNER_PREFERENCE_H_
#define TANDEM_PLACEMENT_PLANNER_PREFERENCE_H_

#include <string>
#include <vector>

#include "placement/planner/demand.h"
#include "placement/planner/parts.h"

namespace tandem::placement {

struct Preference {
  std::vector<int> shapes;  // possible ones, best first
  std::string sentence;     // the prediction; empty where there was none
};

// By the model's goal, as auto_degree predicts it for the largest part with free devices that hold the model. Where the
// step model does not know the model (no parameters, no KV per token) or the chip: the smallest degree first, since
// what fits fewer devices leaves more.
Preference PreferShapes(const Topology& topology, const Demand& demand, const Parts& parts, size_t model);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_PREFERENCE_H_
