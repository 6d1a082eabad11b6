// What a simulated client must get, to the last character, worked out beforehand from what it asked for alone: the
// model is a hash chain (sim_executor.h), a draw depends on seed and index, and token n is written as the character 33
// + n.
#ifndef TANDEM_TESTS_SIM_EXPECTED_ANSWER_H_
#define TANDEM_TESTS_SIM_EXPECTED_ANSWER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tandem/v1/inference.pb.h"

namespace tandem::sim {

struct ExpectedAnswer {
  std::vector<uint32_t> tokens;  // without the end token; up to the one that completes a stop string
  std::vector<uint64_t> chains;  // before each of them
  bool ends_by_token = false;    // the model's own end
  std::string stop_string;       // the one that ends it
  std::string text;              // cut before the stop string
  bool Stops() const { return ends_by_token || !stop_string.empty(); }
};
ExpectedAnswer Expect(const v1::GenerateRequest& request);

// Stop strings for a request without any: one from the answer that it would get, by `draw` (any number), and one that
// may or may not come.
std::vector<std::string> DrawStops(const v1::GenerateRequest& request, uint64_t draw);

// The logits that follow a chain.
std::vector<float> LogitsAfter(uint64_t chain);

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_EXPECTED_ANSWER_H_
