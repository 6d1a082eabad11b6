// One call to the scheduler for one answer; both end together.
#ifndef TANDEM_CLIENT_GATEWAY_UNARY_CALL_H_
#define TANDEM_CLIENT_GATEWAY_UNARY_CALL_H_

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "client/async_client.h"
#include "client/gateway/api_error.h"
#include "client/gateway/gateway.h"
#include "client/gateway/http_text.h"
#include "client/gateway/routed_exchange.h"

namespace tandem::gateway {

// `answer` makes the response of what the scheduler says, on the exchange's loop. Failures become their status; a
// client that leaves cancels the call.
template <typename Request, typename Response>
void CallScheduler(const std::shared_ptr<RoutedExchange>& exchange, client::AsyncClient* client,
                   client::AsyncClient::Canceller (client::AsyncClient::*method)(
                       Request, client::CallOptions, client::AsyncClient::Handler<Response>),
                   Request request, absl::Duration timeout, std::function<HttpResponse(const Response&)> answer) {
  const client::CallOptions options{.timeout = std::min(timeout, TimeoutOf(exchange->request())),
                                    .metadata = MetadataOf(exchange->request())};
  auto cancel = (client->*method)(
      std::move(request), options, [exchange, answer = std::move(answer)](absl::StatusOr<Response> response) {
        exchange->Post([exchange, answer, response = std::move(response)] {
          exchange->Respond(response.ok() ? answer(*response) : ToResponse(FromStatus(response.status())));
        });
      });
  exchange->OnCut([exchange, cancel = std::move(cancel)](Cut cut) {
    cancel();
    exchange->Respond(ToResponse(CutError(cut)));
  });
}

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_UNARY_CALL_H_
