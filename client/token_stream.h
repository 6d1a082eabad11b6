// One completion as it comes: pull chunks until there are none, then ask how it ended.
//
//   auto stream = client->Generate(request, {.timeout = absl::Seconds(30)});
//   while (auto chunk = stream.Next()) std::cout << chunk->text();
//   if (!stream.Result().ok()) ...
//
// Every token index comes exactly once and in order; the stream checks it and ends with INTERNAL where it is not so.
// A request that fails with UNAVAILABLE before its first token is tried again, as often and as late as the scheduler's
// RetryInfo and the options say. After it, a stream that breaks is resumed: from the scheduler that comes back, and
// where every log is lost, from the tokens that are here, as another request that goes on from them under the same
// seed. Text is never doubled. For this each request has an idempotency key, one of its own if the caller gave none.
//
// Belongs to one thread; Cancel() alone may be called from others. Destroying it cancels what still runs.
#ifndef TANDEM_CLIENT_TOKEN_STREAM_H_
#define TANDEM_CLIENT_TOKEN_STREAM_H_

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "tandem/v1/inference.pb.h"

namespace tandem::client {

// How a request ended well: reason, usage and timings in `finished`, id, seed and group in `accepted`.
struct GenerateResult {
  v1::Accepted accepted;
  v1::Finished finished;
  int attempts = 1;  // calls made, all together
  int resumes = 0;   // times that a stream which had begun broke and went on
};

class TokenStream {
 public:
  class Impl;
  explicit TokenStream(std::unique_ptr<Impl> impl);
  TokenStream(TokenStream&&) noexcept;
  TokenStream& operator=(TokenStream&&) noexcept;
  ~TokenStream();

  // Blocks for the next chunk. Nothing more: the request has ended, well or not.
  std::optional<v1::Chunk> Next();

  // REQUIRES: Next() has returned nothing.
  const absl::StatusOr<GenerateResult>& Result() const;

  // Of the attempt that runs; empty before the scheduler has said it. The id comes with the first Progress already.
  const v1::Accepted& accepted() const;

  // Any thread, any time, any number of times. The stream ends with CANCELLED unless it had ended before.
  void Cancel();

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::client

#endif  // TANDEM_CLIENT_TOKEN_STREAM_H_
