// HTTP as the gateway's handlers see it: a request that has come whole, and an Exchange to answer it through. No socket
// and no library shows here; connection.cc is the other side.
#ifndef TANDEM_CLIENT_GATEWAY_HTTP_H_
#define TANDEM_CLIENT_GATEWAY_HTTP_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "client/gateway/caller.h"

namespace tandem::gateway {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;  // "GET"; HEAD comes as GET, and the body of its answer stays here
  std::string path;    // percent-decoded, without the query
  Headers headers;
  std::string body;
  std::string id;  // the caller's x-request-id where it is one, else drawn here
  Caller caller;   // as the screening found it

  // Empty where there is none.
  absl::string_view Header(absl::string_view name) const {
    for (const auto& [key, value] : headers) {
      if (absl::EqualsIgnoreCase(key, name)) return value;
    }
    return "";
  }
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  Headers headers = {};
};

// Why an exchange ends before its answer is whole.
enum class Cut { kClientLeft, kShutdown };

// One request and its answer. All but Post belongs to the connection's loop, on which handlers are called.
//
// A handler ends the exchange once: by Respond, or by BeginStream, Write..., EndStream. What it does after that, or
// after the client has left, has no effect.
class Exchange {
 public:
  virtual ~Exchange() = default;

  // The handler may take the body out of it.
  virtual HttpRequest& request() = 0;

  // Any thread: `work` runs on the loop.
  virtual void Post(std::function<void()> work) = 0;

  virtual void Respond(HttpResponse response) = 0;

  virtual void BeginStream(std::string content_type, Headers headers) = 0;  // 200
  virtual void Write(absl::string_view bytes) = 0;
  virtual void EndStream() = 0;

  // So much is waiting for the client to read it that nothing more should be written now. `writable` is called once
  // when there is room again; a client that does not read for long is cut off instead.
  virtual bool Congested() const = 0;
  virtual void OnWritable(std::function<void()> writable) = 0;

  // `cut` is called, once at most, if the exchange must end before its answer is whole. What is answered then still
  // reaches a client that only closed its sending side, and every client at a shutdown.
  virtual void OnCut(std::function<void(Cut)> cut) = 0;
};

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_HTTP_H_
