// Seeded mutations of committed inputs, for tests that feed a fuzz entry where no fuzzer runs. Header only, tests only.
#ifndef TANDEM_BASE_FUZZ_MUTATION_H_
#define TANDEM_BASE_FUZZ_MUTATION_H_

#include <algorithm>
#include <cstddef>
#include <random>
#include <string>
#include <vector>

namespace tandem::fuzz {

struct Mutation {
  std::vector<const char*> pieces;    // what the format is made of, and what breaks it; none: bytes alone
  size_t first = 0;                   // bytes before it stay: they choose among parsers
  size_t places = std::string::npos;  // only so many bytes are touched, where behind them there is only data
};

// `input` with one to four changes: a byte or a bit, a piece more, some bytes or a line less, an end cut off, a stretch
// once more, a value or a number replaced by a piece.
inline std::string Mutated(std::string input, const Mutation& mutation, std::mt19937* random) {
  const auto below = [&](size_t bound) { return static_cast<size_t>((*random)()) % bound; };
  const auto place = [&] { return mutation.first + below(std::min(input.size() - mutation.first, mutation.places)); };
  const auto piece = [&] { return mutation.pieces[below(mutation.pieces.size())]; };
  const size_t kinds = mutation.pieces.empty() ? 6 : 9;
  for (size_t times = 1 + below(4); times > 0 && input.size() > mutation.first; --times) {
    const size_t at = place();
    switch (below(kinds)) {
      case 0:
        input[at] = static_cast<char>((*random)());
        break;
      case 1:
        input[at] = static_cast<char>(input[at] ^ (1 << below(8)));
        break;
      case 2:
        input.erase(at, 1 + below(8));
        break;
      case 3:
        input.resize(at);
        break;
      case 4:
        input.insert(at, input.substr(place(), below(64)));
        break;
      case 5:
        input.erase(at, std::min(input.find('\n', at), input.size() - 1) - at + 1);
        break;
      case 6:
        input.insert(at, piece());
        break;
      case 7:
        input.replace(at, std::min(input.find_first_of(",]}", at), input.size()) - at, piece());
        break;
      default: {
        const size_t digit = input.find_first_of("0123456789", at);
        if (digit == std::string::npos) break;
        input.replace(digit, std::min(input.find_first_not_of("0123456789", digit), input.size()) - digit, piece());
      }
    }
  }
  return input;
}

}  // namespace tandem::fuzz

#endif  // TANDEM_BASE_FUZZ_MUTATION_H_
