// The gateway's surface: which path means what, who may ask, and what every answer carries. A client of the scheduler's
// gRPC API and of nothing else.
//
// Handle() is called on connections' loops, on any number of threads. Fixed after construction; the parts that change
// (metrics, client) synchronise themselves.
#ifndef TANDEM_CLIENT_GATEWAY_GATEWAY_H_
#define TANDEM_CLIENT_GATEWAY_GATEWAY_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "client/async_client.h"
#include "client/gateway/api_keys.h"
#include "client/gateway/completion_request.h"
#include "client/gateway/embedding_request.h"
#include "client/gateway/http.h"
#include "client/gateway/metrics.h"
#include "client/gateway/routed_exchange.h"

namespace tandem::gateway {

struct GatewayOptions {
  bool guard_models = false;                 // the list of models needs a key too
  std::vector<std::string> allowed_origins;  // of browsers; "*": all; none: no CORS
  std::string version;
  bool vllm_metrics = false;  // /metrics has vLLM's names too, as the scheduler counts
};

class Gateway {
 public:
  // `closing`: set when the process is about to end. All pointers outlive this.
  Gateway(GatewayOptions options, ApiKeys* keys, client::AsyncClient* client, Metrics* metrics,
          const std::atomic<bool>* closing);

  // Looks at a header alone: whether its path and method are served, and whether its caller may ask. The answer where
  // not; else the caller is put into the request.
  std::optional<HttpResponse> Screen(HttpRequest* request);
  // A whole request that Screen has let in.
  void Handle(std::shared_ptr<Exchange> exchange);

 private:
  using Handler = void (Gateway::*)(std::shared_ptr<RoutedExchange>);
  struct Route;
  static const std::vector<Route>& Routes();
  static const Route* FindRoute(absl::string_view path);

  std::optional<HttpResponse> Refusal(const Route* route, HttpRequest* request) const;
  // Whose key a request came with; nothing where it came with none that is good.
  std::optional<Caller> CallerOf(const HttpRequest& request) const;
  Headers CorsHeaders(const HttpRequest& request) const;

  void Live(std::shared_ptr<RoutedExchange> exchange);
  void Ready(std::shared_ptr<RoutedExchange> exchange);
  void Version(std::shared_ptr<RoutedExchange> exchange);
  void MetricsText(std::shared_ptr<RoutedExchange> exchange);
  void Models(std::shared_ptr<RoutedExchange> exchange);
  void Completions(std::shared_ptr<RoutedExchange> exchange);
  void Chat(std::shared_ptr<RoutedExchange> exchange);
  void Complete(const std::shared_ptr<RoutedExchange>& exchange, std::variant<CompletionRequest, ApiError> request);
  // Calls `then` on the exchange's loop with the model that is meant: the named one, or where none is named the one
  // that there is of the task. Where there is no such one, the exchange is answered.
  void WithModel(const std::shared_ptr<RoutedExchange>& exchange, const std::string& named, const char* task,
                 std::function<void(const std::string& model)> then);
  void Embeddings(std::shared_ptr<RoutedExchange> exchange);
  void Embed(const std::shared_ptr<RoutedExchange>& exchange, EmbeddingRequest request);
  void Rerank(std::shared_ptr<RoutedExchange> exchange);
  void Rank(const std::shared_ptr<RoutedExchange>& exchange, RerankQuestion question);
  void Tokenize(std::shared_ptr<RoutedExchange> exchange);
  void Detokenize(std::shared_ptr<RoutedExchange> exchange);

  const GatewayOptions options_;
  ApiKeys* const keys_;
  client::AsyncClient* const client_;
  Metrics* const metrics_;
  const std::atomic<bool>* const closing_;
  const int64_t started_;  // seconds since 1970
};

// What is passed on to the scheduler with every call that is made for a request.
client::Metadata MetadataOf(const HttpRequest& request);
// What the caller allows itself to wait, by x-request-timeout in seconds; for ever where it does not say.
absl::Duration TimeoutOf(const HttpRequest& request);

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_GATEWAY_H_
