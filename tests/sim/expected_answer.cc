#include "tests/sim/expected_answer.h"

#include "absl/strings/match.h"
#include "tests/sim/sim_executor.h"
#include "worker/engine/sampler.h"

namespace tandem::sim {
namespace {

char Letter(uint32_t token) { return static_cast<char>('!' + token); }

TokenId Choose(uint64_t chain, const worker::Sampling& sampling, size_t index) {
  if (sampling.temperature <= 0) return NextToken(chain);
  const std::vector<float> logits = LogitsAfter(chain);
  worker::Sampler sampler;
  return sampler.Sample({.logits = logits, .sampling = &sampling, .index = index})->token;
}

}  // namespace

std::vector<float> LogitsAfter(uint64_t chain) {
  std::vector<float> logits(kVocab, 0.0f);
  logits[static_cast<size_t>(NextToken(chain))] = 1.0f;
  return logits;
}

ExpectedAnswer Expect(const v1::GenerateRequest& request) {
  const worker::Sampling sampling{.temperature = request.sampling().temperature(), .seed = request.sampling().seed()};
  uint64_t chain = 0;
  for (uint32_t token : request.token_ids().ids()) chain = ChainOn(chain, static_cast<TokenId>(token));
  ExpectedAnswer answer;
  while (answer.tokens.size() < request.stopping().max_tokens()) {
    const TokenId token = Choose(chain, sampling, answer.tokens.size());
    answer.ends_by_token = token == kEos;
    if (answer.ends_by_token) break;
    answer.chains.push_back(chain);
    answer.tokens.push_back(static_cast<uint32_t>(token));
    answer.text += Letter(answer.tokens.back());
    chain = ChainOn(chain, token);
    // The longest of those that end here began first, and everything from there on is cut.
    for (const std::string& stop : request.stopping().stop()) {
      if (absl::EndsWith(answer.text, stop) && stop.size() > answer.stop_string.size()) answer.stop_string = stop;
    }
    if (answer.stop_string.empty()) continue;
    answer.text.resize(answer.text.size() - answer.stop_string.size());
    break;
  }
  return answer;
}

std::vector<std::string> DrawStops(const v1::GenerateRequest& request, uint64_t draw) {
  const std::string text = Expect(request).text;
  const std::string chance(1, static_cast<char>('!' + draw % (kVocab - 1)));
  if (text.empty()) return {chance};
  const size_t at = draw / 64 % text.size();
  return {text.substr(at, 1 + draw / 4096 % 3), absl::StrCat(chance, chance)};
}

}  // namespace tandem::sim
