// A door for Prometheus and health probes: GET /metrics, /health/live, /health/ready over plain HTTP/1.1.
//
// Small on purpose: one thread, one connection at a time, one request each, answered and closed. A caller that sends
// nothing for two seconds, or more than 8 KiB, is cut off, so the worst that a slow one can do is to delay a scrape.
#ifndef TANDEM_SCHEDULER_METRICS_DOOR_H_
#define TANDEM_SCHEDULER_METRICS_DOOR_H_

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
  // Called on the door's thread with the path, query cut off; of GET and HEAD requests only.
  using Handler = std::function<Answer(const std::string& path)>;
  explicit MetricsDoor(Handler handler);
  ~MetricsDoor();

  // "127.0.0.1:9464"; port 0 takes any free one.
  absl::Status Start(const std::string& address);
  void Stop();
  int port() const { return port_; }

 private:
  void Run();
  void Serve(int connection);

  const Handler handler_;
  int listener_ = -1;
  int wake_[2] = {-1, -1};  // a pipe that Stop writes to
  int port_ = 0;
  std::thread thread_;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_METRICS_DOOR_H_
