// An exchange whose route is known: it counts the answer, and adds what answers of this request carry.
#ifndef TANDEM_CLIENT_GATEWAY_ROUTED_EXCHANGE_H_
#define TANDEM_CLIENT_GATEWAY_ROUTED_EXCHANGE_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "client/gateway/api_error.h"
#include "client/gateway/http.h"
#include "client/gateway/metrics.h"

namespace tandem::gateway {

class RoutedExchange final : public Exchange {
 public:
  RoutedExchange(std::shared_ptr<Exchange> inner, const char* route, Metrics* metrics, Headers headers)
      : inner_(std::move(inner)), route_(route), metrics_(metrics), headers_(std::move(headers)) {
    ++metrics_->requests_running;
  }
  ~RoutedExchange() override {
    --metrics_->requests_running;
    if (streaming_) --metrics_->streams_open;
    metrics_->OnRequest(route_, tenant(), status_, absl::Now() - begin_);
  }

  HttpRequest& request() override { return inner_->request(); }
  void Post(std::function<void()> work) override { inner_->Post(std::move(work)); }

  void Respond(HttpResponse response) override {
    if (status_ == kGone) status_ = response.status;
    response.headers.insert(response.headers.end(), headers_.begin(), headers_.end());
    inner_->Respond(std::move(response));
  }
  void BeginStream(std::string content_type, Headers headers) override {
    status_ = 200;
    streaming_ = true;
    ++metrics_->streams_open;
    headers.insert(headers.end(), headers_.begin(), headers_.end());
    inner_->BeginStream(std::move(content_type), std::move(headers));
  }
  void Write(absl::string_view bytes) override { inner_->Write(bytes); }
  void EndStream() override { inner_->EndStream(); }
  bool Congested() const override { return inner_->Congested(); }
  void OnWritable(std::function<void()> writable) override { inner_->OnWritable(std::move(writable)); }
  void OnCut(std::function<void(Cut)> cut) override {
    inner_->OnCut([cut = std::move(cut), metrics = metrics_, route = route_](Cut why) {
      if (why == Cut::kClientLeft) metrics->OnClientGone(route);
      cut(why);
    });
  }
  // A stream that has begun will end with this error; its 200 does not say so.
  void CountFailedStream(const ApiError& error) { metrics_->OnStreamFailed(route_, error.code); }

  const char* route() const { return route_; }
  // Whose key the request came with; empty: one without a name, or none was needed.
  const std::string& tenant() const { return caller().tenant; }
  const Caller& caller() const { return inner_->request().caller; }
  absl::Time begin() const { return begin_; }

 private:
  static constexpr int kGone = 499;  // of a client that left before it had an answer

  const std::shared_ptr<Exchange> inner_;
  const char* const route_;
  Metrics* const metrics_;
  const Headers headers_;
  const absl::Time begin_ = absl::Now();
  int status_ = kGone;
  bool streaming_ = false;
};

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_ROUTED_EXCHANGE_H_
