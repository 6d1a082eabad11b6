// The library's own end of gRPC: opening a channel and reading a status. Included by client.cc, admin_client.cc
// and the load generator only, so that whoever uses the library does not compile gRPC's headers.
#ifndef TANDEM_CLIENT_CHANNEL_H_
#define TANDEM_CLIENT_CHANNEL_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/client.h"

namespace tandem::client {

// A channel that connects when it is first used, and again whenever the connection is lost. While a call runs it pings:
// a line whose other end vanished breaks within 15 s.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address, const security::Dialer& dialer);

// A channel that is connected. Fails at once where nobody listens or the handshake fails, and after `timeout` where
// nobody answers.
absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenChannel(const std::string& address, const security::Dialer& dialer,
                                                           absl::Duration timeout);

// By what the channel knows: a connection that stands may have lost its other end a moment ago.
bool IsConnected(grpc::Channel& channel);

// Keeps the details as payloads. A deadline that gRPC itself found passed gets the reason DEADLINE_EXCEEDED, like one
// that the scheduler found passed.
absl::Status FromGrpc(const grpc::Status& status);

void SetDeadline(grpc::ClientContext& context, absl::Time deadline);
void AddMetadata(grpc::ClientContext& context, const Metadata& metadata);

}  // namespace tandem::client

#endif  // TANDEM_CLIENT_CHANNEL_H_
