// One Attach call between a simulated worker and the simulated scheduler, with the Tokens call beside it; and the
// scheduler's end of it, as WorkerService's reactor is in the service.
#ifndef TANDEM_TESTS_SIM_ATTACH_STREAM_H_
#define TANDEM_TESTS_SIM_ATTACH_STREAM_H_

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "scheduler/worker_registry.h"
#include "tandem/v1/worker.pb.h"
#include "tests/sim/lane.h"

namespace tandem::sim {

class AttachStream final : public scheduler::WorkerLink, public std::enable_shared_from_this<AttachStream> {
 public:
  // What the two ends do with what arrives. Called while the end is open.
  struct WorkerEnd {
    std::function<void(const v1::AttachResponse&)> command;
    std::function<void(const absl::Status&)> over;
  };
  struct SchedulerEnd {
    std::function<void(const std::shared_ptr<AttachStream>&)> hello;
    std::function<void(const std::shared_ptr<AttachStream>&, const v1::AttachRequest&)> message;
    std::function<void(const v1::TokensRequest&)> tokens;
    std::function<void(AttachStream&)> over;
    std::function<v1::Welcome()> welcome;
  };

  AttachStream(World* world, int64_t delay_us, core::Incarnation incarnation, WorkerEnd worker, SchedulerEnd scheduler);

  // ---- the worker's side
  void Open(v1::Hello hello);
  void SendUp(v1::AttachRequest message);
  void SendTokens(v1::TokensRequest message);
  void CloseByWorker();  // Or its process ended: what was sent arrives first.
  bool tokens_broken() const { return tokens_->cut(); }
  void RenewTokens();

  // ---- what happens to it
  void Break();  // Both ends hear of it, each in its own time; what was under way is lost.
  void BreakTokens() { tokens_->Cut(); }
  void Block(bool up, bool down);
  void Unblock();
  void VanishScheduler();  // The scheduler's process is gone.

  // ---- WorkerLink, the scheduler's side
  void Send(v1::AttachResponse command) override;
  void Admit(core::DeviceId device) override;
  void Close(const absl::Status& why) override;
  core::Incarnation incarnation() const override { return incarnation_; }
  const v1::Hello& hello() const override { return hello_; }

  core::DeviceId device() const { return device_; }
  bool leaving = false;
  std::string leaving_why;

 private:
  void Arrive(const v1::AttachRequest& message);
  void EndAtScheduler();
  void EndAtWorker(const absl::Status& why);

  World* const world_;
  const int64_t delay_us_;
  const core::Incarnation incarnation_;
  const WorkerEnd worker_;
  const SchedulerEnd scheduler_;
  std::shared_ptr<Lane> up_, down_, tokens_;
  bool up_blocked_ = false;
  bool worker_open_ = true, scheduler_open_ = true;
  bool entered_ = false, admitted_ = false;
  v1::Hello hello_;
  core::DeviceId device_;
  std::deque<v1::AttachRequest> unread_;  // Until the core has admitted the worker.
};

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_ATTACH_STREAM_H_
