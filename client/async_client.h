// The client for programs that may not block: every call returns at once and answers through a handler.
//
// Handlers run on gRPC's threads and must not wait; a program with an event loop posts from them. No lock is held while
// one runs, so it may call anything here. One AsyncClient serves any number of threads over one connection, which is
// made by the first call and made again when it is lost; until then calls fail with UNAVAILABLE.
//
// Destroying it waits until every call has ended, so whoever owns it cancels what may take long.
#ifndef TANDEM_CLIENT_ASYNC_CLIENT_H_
#define TANDEM_CLIENT_ASYNC_CLIENT_H_

#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/token_stream.h"
#include "tandem/v1/inference.pb.h"

namespace tandem::client {

// The last one is the end: how it ended well, or why not.
using StreamEvent = std::variant<v1::Accepted, v1::Progress, v1::Chunk, absl::StatusOr<GenerateResult>>;

// One completion as it comes. It retries and resumes as TokenStream does, by the same options (whose on_progress is not
// called: progress is an event here). Any thread may call.
class AsyncStream {
 public:
  class Impl;
  explicit AsyncStream(std::shared_ptr<Impl> impl);
  AsyncStream(AsyncStream&&) noexcept;
  AsyncStream& operator=(AsyncStream&&) noexcept;
  ~AsyncStream();  // cancels

  // Asks for one event; the first one opens the call. What is not asked for stays with the scheduler.
  // REQUIRES: the event before has come, and was not the end.
  void Next();

  // The request is given up wherever it is. No event comes any more, but for one that is on its way to the handler.
  void Cancel();

 private:
  std::shared_ptr<Impl> impl_;
};

struct CallOptions {
  absl::Duration timeout = absl::Seconds(30);
  Metadata metadata;
};

class AsyncClient {
 public:
  template <typename Response>
  using Handler = std::function<void(absl::StatusOr<Response>)>;
  // Cancels the call, if it has not ended; may be dropped without.
  using Canceller = std::function<void()>;

  // "127.0.0.1:50051". Does not connect yet.
  explicit AsyncClient(const std::string& address, const security::Dialer& dialer = {});
  ~AsyncClient();

  AsyncStream Generate(v1::GenerateRequest request, GenerateOptions options, std::function<void(StreamEvent)> handler);

  Canceller Tokenize(v1::TokenizeRequest request, CallOptions options, Handler<v1::TokenizeResponse> handler);
  Canceller Detokenize(v1::DetokenizeRequest request, CallOptions options, Handler<v1::DetokenizeResponse> handler);
  Canceller Embed(v1::EmbedRequest request, CallOptions options, Handler<v1::EmbedResponse> handler);
  Canceller Rerank(v1::RerankRequest request, CallOptions options, Handler<v1::RerankResponse> handler);
  Canceller GetMetrics(v1::GetMetricsRequest request, CallOptions options, Handler<v1::GetMetricsResponse> handler);
  Canceller ListModels(v1::ListModelsRequest request, CallOptions options, Handler<v1::ListModelsResponse> handler);

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::client

#endif  // TANDEM_CLIENT_ASYNC_CLIENT_H_
