// How a program of Tandem makes channels to a door: in plain text or over TLS, with or without a token.
//
// Certificates, keys and the token are read again while the program runs, so that renewed ones are taken without a
// restart: by the next connection, and by the next call. A token never travels in plain text to another machine.
//
// A cheap value; copies share what they read. Any thread.
#ifndef TANDEM_BASE_SECURITY_DIALER_H_
#define TANDEM_BASE_SECURITY_DIALER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/security/settings.h"

namespace grpc {
class Channel;
class ChannelArguments;
}  // namespace grpc

namespace tandem::security {

class Dialer {
 public:
  Dialer();  // plain text, no token

  // INVALID_ARGUMENT names the file that is missing, is not what it should be, or is expired. `warnings`, if given:
  // one sentence each on files that others may read and a certificate that is about to expire.
  static absl::StatusOr<Dialer> Open(const DialSettings& settings, std::vector<std::string>* warnings = nullptr);

  // Whether `address` may be dialled so: INVALID_ARGUMENT where a token would be sent in plain text.
  absl::Status Check(const std::string& address) const;

  // Connects when it is first used. To an address that Check() refuses, calls go without the token.
  std::shared_ptr<grpc::Channel> Dial(const std::string& address, const grpc::ChannelArguments& arguments) const;

  bool encrypted() const;

 private:
  struct Means;
  std::shared_ptr<const Means> means_;
};

}  // namespace tandem::security

#endif  // TANDEM_BASE_SECURITY_DIALER_H_
