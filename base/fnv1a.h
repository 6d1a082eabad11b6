// FNV-1a, 64 bits: equal in every process and every run, and no secret. For names, checksums of what is our own, and
// fingerprints; who may choose what is hashed can make two equal.
#ifndef TANDEM_BASE_FNV1A_H_
#define TANDEM_BASE_FNV1A_H_

#include <cstdint>
#include <string_view>

namespace tandem {

class Fnv1a {
 public:
  constexpr Fnv1a& Add(uint8_t byte) {
    hash_ = (hash_ ^ byte) * 0x100000001b3u;
    return *this;
  }
  constexpr Fnv1a& Add(std::string_view bytes) {
    for (const char byte : bytes) Add(static_cast<uint8_t>(byte));
    return *this;
  }
  constexpr uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 0xcbf29ce484222325u;
};

}  // namespace tandem

#endif  // TANDEM_BASE_FNV1A_H_
