#include "base/security/callback_threads.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>

#include <memory>

namespace tandem::security {
namespace {

// A call that fails at once, on a channel that leads nowhere: what a channel needs to be one of the users.
struct Call {
  grpc::ClientContext context;
  grpc::Slice nothing;
  grpc::ByteBuffer request{&nothing, 1}, response;
};

std::shared_ptr<grpc::Channel>* Keep() {
  auto* const kept = new std::shared_ptr<grpc::Channel>(grpc::CreateChannel("", nullptr));
  auto call = std::make_shared<Call>();
  grpc::GenericStub(*kept).UnaryCall(&call->context, "/none", {}, &call->request, &call->response,
                                     [call](const grpc::Status&) {});
  return kept;
}

}  // namespace

void KeepCallbackThreads() {
  [[maybe_unused]] static const auto* const kept = Keep();  // never destroyed
}

}  // namespace tandem::security
