// What a door that is not gRPC's speaks over TLS: OpenSSL's context, made of the PEM files that the door's settings
// name, and made anew when these change.
//
// TLS 1.2 or later, forward secrecy, HTTP/1.1 by ALPN where a client asks for a protocol. The files are read again
// every `refresh` on a thread of this object; connections that are made from then on see what is in them, those that
// are open stay. What is wrong with new files is logged once, and the old ones stay in use.
//
// Any thread may ask for the context.
#ifndef TANDEM_BASE_SECURITY_SERVER_TLS_H_
#define TANDEM_BASE_SECURITY_SERVER_TLS_H_

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/security/settings.h"
#include "base/steady_wait.h"

struct ssl_ctx_st;  // OpenSSL's SSL_CTX

namespace tandem::security {

class ServerTls {
 public:
  // REQUIRES: door.encrypted(). INVALID_ARGUMENT names the file that is missing, is not what it should be, does not fit
  // or is expired; `warnings` as of CheckDoorFiles.
  static absl::StatusOr<std::unique_ptr<ServerTls>> Open(const DoorSettings& door, absl::Duration refresh,
                                                         std::vector<std::string>* warnings);
  ~ServerTls();

  std::shared_ptr<ssl_ctx_st> Context() const;
  // When the certificate that is shown now ends.
  absl::Time ends() const;

  // Looks at the files at once. The status of what is in them; one that is not OK has changed nothing.
  absl::Status Refresh();

 private:
  struct Files {
    std::string certificate, key, client_ca;
    bool operator==(const Files& other) const = default;
  };

  ServerTls(DoorSettings door, absl::Duration refresh) : door_(std::move(door)), refresh_(refresh) {}
  absl::StatusOr<Files> ReadFiles() const;
  absl::Status Take(const Files& files) ABSL_EXCLUSIVE_LOCKS_REQUIRED(taking_);
  void Run();

  const DoorSettings door_;
  const absl::Duration refresh_;

  absl::Mutex taking_;  // held over files and OpenSSL, so never while somebody waits for the context
  Files taken_ ABSL_GUARDED_BY(taking_);

  mutable absl::Mutex mu_;
  std::shared_ptr<ssl_ctx_st> context_ ABSL_GUARDED_BY(mu_);
  absl::Time ends_ ABSL_GUARDED_BY(mu_);

  SteadyNotification stop_;
  std::thread thread_;
};

}  // namespace tandem::security

#endif  // TANDEM_BASE_SECURITY_SERVER_TLS_H_
