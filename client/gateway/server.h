// Listening, and the threads that connections live on. Each loop is one thread with its own event queue; a connection
// stays on the loop that it was given, in turn.
//
// Life: Start, then Shutdown once. Any thread may call them, not two at a time.
#ifndef TANDEM_CLIENT_GATEWAY_SERVER_H_
#define TANDEM_CLIENT_GATEWAY_SERVER_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/gateway/http.h"
#include "client/gateway/metrics.h"

namespace tandem::security {
class ServerTls;
}

namespace tandem::gateway {

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8000;  // 0: any free one
  int threads = 2;
  int most_connections = 4096;          // more are answered 503
  int64_t most_body_bytes = 256 << 20;  // of all requests that are being read or answered
};

class Server {
 public:
  // What is called on the loops; see ConnectionHost.
  struct Handlers {
    std::function<std::optional<HttpResponse>(HttpRequest*)> screen;
    std::function<void(std::shared_ptr<Exchange>)> handle;
  };

  // `closing` is set by Shutdown. `tls`: what new connections speak; null: plain text.
  Server(ServerOptions options, const security::ServerTls* tls, Metrics* metrics, std::atomic<bool>* closing,
         Handlers handlers);
  ~Server();

  absl::Status Start();
  int port() const;

  // Has `answer` called once every loop has come round, on the thread of the last. After Start.
  void AskLoops(std::function<void()> answer);

  // Takes no new connection, closes those between requests, and waits up to `grace` for answers under way. What then
  // still runs ends with an error that says so. Returns when no connection is left. `hurried` is asked now and then:
  // true ends the grace.
  void Shutdown(absl::Duration grace, const std::function<bool()>& hurried);

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_SERVER_H_
