// One request for completions while it is answered: its choices' streams from the scheduler, merged into one answer.
//
// Nothing is answered before the scheduler has taken up the first choice, so that a full queue, a bad parameter or a
// deadline still becomes a status. After that a failure is an error event. As long as the client does not read, nothing
// more is asked of the scheduler, which keeps what it computes; so the memory here is bounded, and a slow client holds
// up nobody but itself. When the client leaves, every choice is cancelled, in whatever phase it is.
//
// Belongs to the exchange's loop. The exchange holds it (by OnCut) until the answer has ended.
#ifndef TANDEM_CLIENT_GATEWAY_COMPLETION_CALL_H_
#define TANDEM_CLIENT_GATEWAY_COMPLETION_CALL_H_

#include <memory>
#include <vector>

#include "client/async_client.h"
#include "client/gateway/answer_format.h"
#include "client/gateway/completion_request.h"
#include "client/gateway/routed_exchange.h"

namespace tandem::gateway {

class CompletionCall : public std::enable_shared_from_this<CompletionCall> {
 public:
  CompletionCall(CompletionRequest request, std::shared_ptr<RoutedExchange> exchange, client::AsyncClient* client,
                 Metrics* metrics);

  void Start(absl::Duration timeout);

 private:
  void OnEvent(int index, client::StreamEvent event);
  void OnAccepted(int index);
  void OnChunk(int index, const v1::Chunk& chunk);
  void OnEnd(int index, v1::Finished finished);
  // Takes what became certain of a choice's answer: keeps it for a whole one, sends it on in a stream.
  void Show(int index, ToolCallReader::Found found);
  void AskForMore(int index);
  void AskStalled();
  void Complete();
  void Fail(const ApiError& error, bool client_left = false);
  void Identify(const std::string& request_id);
  HttpResponse Identified(HttpResponse response) const;
  void CancelAll();

  const CompletionRequest request_;
  const AnswerFormat format_;
  const LogprobsJson::Style logprobs_style_;
  const std::shared_ptr<RoutedExchange> exchange_;
  client::AsyncClient* const client_;
  Metrics* const metrics_;

  std::vector<client::AsyncStream> streams_;
  std::vector<Choice> choices_;
  std::vector<ToolCallReader> readers_;  // one per choice, where tools may be called
  std::vector<int> stalled_;             // choices whose next event has not been asked for
  std::string request_id_;               // the scheduler's; empty until it is known
  size_t ended_ = 0;
  bool begun_ = false;  // the 200 has been sent
  bool text_seen_ = false;
  bool done_ = false;
  std::string event_;  // scratch: the events being written
};

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_COMPLETION_CALL_H_
