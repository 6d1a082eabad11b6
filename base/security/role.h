// What somebody who knocks may do. An identity has one role or several, written "admin" or "client+viewer".
#ifndef TANDEM_BASE_SECURITY_ROLE_H_
#define TANDEM_BASE_SECURITY_ROLE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::security {

enum class Role : uint8_t {
  kClient,  // asks for completions and vectors
  kWorker,  // computes: attaches a device
  kAdmin,   // everything at the operators' door
  kViewer,  // looks at all of it and changes nothing
};
inline constexpr int kRoles = 4;

const char* Word(Role role);

class RoleSet {
 public:
  constexpr RoleSet() = default;
  constexpr RoleSet(Role role) : bits_(Bit(role)) {}  // NOLINT: a role is a set of one

  friend constexpr RoleSet operator|(RoleSet a, RoleSet b) { return RoleSet(a.bits_ | b.bits_, 0); }
  friend constexpr bool operator==(RoleSet a, RoleSet b) { return a.bits_ == b.bits_; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr bool Meets(RoleSet other) const { return (bits_ & other.bits_) != 0; }

  std::string ToString(absl::string_view between = "+") const;

 private:
  constexpr RoleSet(int bits, int) : bits_(static_cast<uint8_t>(bits)) {}
  static constexpr uint8_t Bit(Role role) { return static_cast<uint8_t>(1 << static_cast<int>(role)); }

  uint8_t bits_ = 0;
};

// "client+viewer". INVALID_ARGUMENT names the word that is no role.
absl::StatusOr<RoleSet> ParseRoles(absl::string_view text);

}  // namespace tandem::security

#endif  // TANDEM_BASE_SECURITY_ROLE_H_
