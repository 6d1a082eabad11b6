#include "scheduler/tokenizer/byte_level.h"

#include <array>
#include <cstdint>

#include "scheduler/tokenizer/utf8.h"

namespace tandem::tokenizer {
namespace {

struct Alphabet {
  Alphabet() {
    byte_of.fill(-1);
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool prints = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const char32_t c = prints ? static_cast<char32_t>(b) : next++;
      AppendChar(c, &spelling[static_cast<size_t>(b)]);
      byte_of[c] = static_cast<int16_t>(b);
    }
  }
  std::array<std::string, 256> spelling;
  std::array<int16_t, 0x144> byte_of;
};

const Alphabet& TheAlphabet() {
  static const Alphabet* const alphabet = new Alphabet;
  return *alphabet;
}

}  // namespace

std::string ToByteLevel(absl::string_view bytes) {
  const Alphabet& alphabet = TheAlphabet();
  std::string spelled;
  spelled.reserve(bytes.size() * 2);
  for (char b : bytes) spelled.append(alphabet.spelling[static_cast<uint8_t>(b)]);
  return spelled;
}

std::optional<std::string> FromByteLevel(absl::string_view spelled) {
  const Alphabet& alphabet = TheAlphabet();
  std::string bytes;
  bytes.reserve(spelled.size());
  for (size_t pos = 0; pos < spelled.size();) {
    const char32_t c = TakeChar(spelled, &pos);
    if (c >= alphabet.byte_of.size() || alphabet.byte_of[c] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(alphabet.byte_of[c]));
  }
  return bytes;
}

}  // namespace tandem::tokenizer
