// A door for Prometheus and health probes: GET /metrics, /health/live, /health/ready over plain HTTP/1.1.
//
// Small on purpose: one thread, which waits for all connections at once; one request each, answered and closed. A
// caller that sends nothing for a while (two seconds), or more than 8 KiB, is cut off. So is the one that has been
// silent for longest where kMostCallers are there and another comes: who opens connections and says nothing keeps no
// probe waiting.
#ifndef TANDEM_SCHEDULER_METRICS_DOOR_H_
#define TANDEM_SCHEDULER_METRICS_DOOR_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <thread>

#include "absl/status/status.h"

namespace tandem::scheduler {

class MetricsDoor {
 public:
  struct Answer {
    int code = 200;
    std::string body;
  };
  static constexpr size_t kMostCallers = 32;
  // Called on the door's thread, so that what one takes all wait for; the path, query cut off; of GET and HEAD
  // requests only.
  using Handler = std::function<Answer(const std::string& path)>;
  // `patience`: for a request, and for each part of its answer to be taken.
  explicit MetricsDoor(Handler handler, std::chrono::milliseconds patience = std::chrono::seconds(2));
  ~MetricsDoor();

  // "127.0.0.1:9464"; port 0 takes any free one.
  absl::Status Start(const std::string& address);
  void Stop();
  int port() const { return port_; }

 private:
  struct Caller;

  void Run();
  // Reads, answers and writes as far as it goes without waiting. False: the caller is done with.
  bool Serve(Caller& caller);
  // The answer to what the caller has sent, as it goes over the wire.
  std::string AnswerTo(const std::string& head);

  const Handler handler_;
  const std::chrono::milliseconds patience_;
  int listener_ = -1;
  int wake_[2] = {-1, -1};  // a pipe that Stop writes to
  int port_ = 0;
  std::thread thread_;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_METRICS_DOOR_H_
