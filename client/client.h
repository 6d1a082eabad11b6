// The C++ client: what a service links to ask Tandem for completions.
//
// Requests and answers are the messages of proto/tandem/v1/inference.proto; their comments say units and ranges. A
// failure is an absl::Status; error.h reads its reason. One Client serves any number of threads and streams over one
// connection, which it mends by itself.
#ifndef TANDEM_CLIENT_CLIENT_H_
#define TANDEM_CLIENT_CLIENT_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/security/dialer.h"
#include "client/token_stream.h"
#include "tandem/v1/inference.pb.h"

namespace tandem::client {

struct ClientOptions {
  absl::Duration connect_timeout = absl::Seconds(5);
  absl::Duration call_timeout = absl::Seconds(30);  // of every call but Generate
  security::Dialer dialer = {};                     // TLS, certificate, token; plain text unless given
};

// Sent along with a call; keys in lower case. What is no legal gRPC metadata is left out.
using Metadata = std::vector<std::pair<std::string, std::string>>;

struct GenerateOptions {
  absl::Duration timeout = absl::InfiniteDuration();  // of the whole, repetitions and resumptions included
  // Repetitions before the first token. The scheduler's RetryInfo says how long to wait; where it is silent, from
  // `first_backoff` on, doubling. No wait is longer than `most_backoff`.
  int retries = 4;
  absl::Duration first_backoff = absl::Milliseconds(100);
  absl::Duration most_backoff = absl::Seconds(10);
  // After the first token a stream that breaks (the scheduler is away, or its request was lost) is taken up again where
  // it was, this often; 0: never. Each time it may take as long as `resume_within`: workers keep what they compute for
  // about that long.
  int resumes = 16;
  absl::Duration resume_within = absl::Seconds(60);
  // A scheduler says something every 15 s at least. A stream on which nothing came for this long has broken, whatever
  // the connection looks like, and is dealt with as one.
  absl::Duration most_silence = absl::Seconds(35);
  // Called on the thread that is in Next() when it begins to: why, and how many tokens are there.
  std::function<void(const absl::Status&, size_t)> on_resume;
  // While it waits: place in the queue and what for. Called on the thread that is in Next().
  std::function<void(const v1::Progress&)> on_progress;
  Metadata metadata;
};

class Client {
 public:
  // "127.0.0.1:50051". UNAVAILABLE at once if nobody listens there.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const std::string& address, const ClientOptions& options = {});
  ~Client();

  // Returns at once; the first Next() opens the call. The stream may outlive the client.
  TokenStream Generate(v1::GenerateRequest request, GenerateOptions options = {});

  // Vectors of texts, and scores of documents; by models of the tasks embed and rerank.
  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request);
  absl::StatusOr<v1::RerankResponse> Rerank(const v1::RerankRequest& request);

  absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request);
  absl::StatusOr<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& request);
  absl::StatusOr<v1::ListModelsResponse> ListModels();
  // Returns the ids that were alive, and of that tenant.
  absl::StatusOr<std::vector<std::string>> Abort(const std::vector<std::string>& request_ids,
                                                 const std::string& tenant = "");

 private:
  struct Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::client

#endif  // TANDEM_CLIENT_CLIENT_H_
