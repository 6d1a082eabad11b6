#include "worker/device_health.h"

#include <glog/logging.h>

#include <fstream>
#include <utility>

namespace tandem::worker {

HealthWatch::HealthWatch(std::unique_ptr<HealthSource> source, std::function<void(HealthReport)> report)
    : source_(std::move(source)), report_(std::move(report)), thread_([this] { Run(); }) {}

HealthWatch::~HealthWatch() {
  {
    std::lock_guard lock(mu_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void HealthWatch::Run() {
  std::unique_lock lock(mu_);
  while (!stopping_) {
    lock.unlock();
    for (HealthReport& news : source_->Look()) {
      LOG(WARNING) << "device health: " << news.code << (news.cleared ? " is over" : ": ") << news.message;
      report_(std::move(news));
    }
    lock.lock();
    changed_.wait_for(lock, source_->Pause(), [this] { return stopping_; });
  }
}

std::vector<HealthReport> HealthFile::Look() {
  std::map<std::string, std::string> now;
  std::ifstream file(path_);
  for (std::string line; std::getline(file, line);) {
    if (line.empty()) continue;
    const size_t colon = line.find(": ");
    now[line.substr(0, colon)] = colon == std::string::npos ? "" : line.substr(colon + 2);
  }
  std::vector<HealthReport> news;
  for (const auto& [code, message] : there_) {
    const bool lasted = code.rfind("XID ", 0) != 0;
    if (lasted && !now.contains(code)) news.push_back({code, "", true, true});
  }
  for (const auto& [code, message] : now) {
    if (!there_.contains(code)) news.push_back({code, message, code.rfind("XID ", 0) != 0, false});
  }
  there_ = std::move(now);
  return news;
}

}  // namespace tandem::worker
