// Embed and Rerank: checked where they arrive, made into questions in the pool, and answered by an encoder
// (encode_call.h).
#ifndef TANDEM_SCHEDULER_ENCODE_SERVICE_H_
#define TANDEM_SCHEDULER_ENCODE_SERVICE_H_

#include <grpcpp/support/server_callback.h>

#include "scheduler/encode_call.h"
#include "scheduler/model_catalog.h"
#include "tandem/v1/inference.pb.h"

namespace tandem::scheduler {

// `model` is what the request names, `asked` what is known of the call, and `priority` what it is given. The request
// and the response live until the call is done, as gRPC has it.
grpc::ServerUnaryReactor* StartEmbed(const EncodeCall::Parts& parts, RefusedCall asked, ServedModelPtr model,
                                     int32_t priority, grpc::CallbackServerContext* context,
                                     const v1::EmbedRequest* request, v1::EmbedResponse* response);
grpc::ServerUnaryReactor* StartRerank(const EncodeCall::Parts& parts, RefusedCall asked, ServedModelPtr model,
                                      int32_t priority, grpc::CallbackServerContext* context,
                                      const v1::RerankRequest* request, v1::RerankResponse* response);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_ENCODE_SERVICE_H_
