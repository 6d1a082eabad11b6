// One Generate call between a simulated client and the simulated scheduler: the client's end of a RequestStream, and
// the way between the two.
#ifndef TANDEM_TESTS_SIM_SIM_CALL_H_
#define TANDEM_TESTS_SIM_SIM_CALL_H_

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "scheduler/request_stream.h"
#include "tests/sim/lane.h"

namespace tandem::sim {

class SimCall final : public scheduler::ClientSink, public std::enable_shared_from_this<SimCall> {
 public:
  struct ClientEnd {
    std::function<void(const v1::GenerateResponse&)> message;
    std::function<void(const grpc::Status&)> over;  // Once, and nothing after it.
  };
  SimCall(World* world, int64_t delay_us, int64_t read_us, ClientEnd client)
      : world_(world),
        read_us_(read_us),
        client_(std::move(client)),
        down_(std::make_shared<Lane>(world, delay_us)),
        up_(std::make_shared<Lane>(world, delay_us)),
        reader_(this) {}

  // ---- the scheduler's side
  using Done = std::function<void(const std::shared_ptr<scheduler::RequestStream>&)>;
  // From now on the client reads `stream` from token `next` on. `done` is told when the call has ended.
  void Read(std::shared_ptr<scheduler::RequestStream> stream, size_t next, Done done) {
    auto self = shared_from_this();  // The stream may end the call before this returns.
    stream_ = std::move(stream);
    done_ = std::move(done);
    if (const auto error = stream_->Attach(&reader_, next)) {
      Say(ToGrpc(*error));
      Finish();
    }
  }
  void Refuse(const scheduler::Error& error) { Say(ToGrpc(error)); }
  // The scheduler's process is gone, and its streams with it.
  void Vanish() {
    over_ = true;
    stream_ = nullptr;
    done_ = nullptr;
    Say(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the scheduler is gone"));
  }

  // ---- the client's side
  // The call breaks, or the client takes it back: the scheduler hears of it.
  void Leave() {
    left_ = true;
    up_->Send([self = shared_from_this()] {
      if (self->stream_ && !self->over_) self->stream_->Detach(&self->reader_);
    });
  }

  // It takes no message for so long.
  void Stall(int64_t us) { stalled_until_ = world_->now() + us; }

  // ---- ClientSink
  void Open() override { Written(); }
  void Send(const v1::GenerateResponse& message, bool) override {
    Deliver(message);
    Written();
  }
  void SendLast(const v1::GenerateResponse& message) override {
    Deliver(message);
    Say(grpc::Status::OK);
    Finish();
  }
  void End(const scheduler::Error& error) override {
    Say(ToGrpc(error));
    Finish();
  }

 private:
  void Deliver(const v1::GenerateResponse& message) {
    down_->Send([self = shared_from_this(), message] {
      if (!self->left_) self->client_.message(message);
    });
  }
  void Say(const grpc::Status& status) {
    down_->Send([self = shared_from_this(), status] {
      if (!std::exchange(self->left_, true)) self->client_.over(status);
    });
  }
  void Written() {
    world_->After(std::max(read_us_, stalled_until_ - world_->now()), [self = shared_from_this()] {
      if (self->stream_ && !self->over_) self->stream_->OnSent(&self->reader_, true);
    });
  }
  void Finish() {
    over_ = true;
    // Not from within the stream.
    world_->After(0, [self = shared_from_this()] {
      if (self->done_) self->done_(self->stream_);
      self->done_ = nullptr;
      self->stream_ = nullptr;
    });
  }

  World* const world_;
  const int64_t read_us_;
  const ClientEnd client_;
  const std::shared_ptr<Lane> down_, up_;
  scheduler::Reader reader_;
  std::shared_ptr<scheduler::RequestStream> stream_;
  Done done_;
  int64_t stalled_until_ = 0;
  bool over_ = false;  // At the scheduler.
  bool left_ = false;  // At the client.
};

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_SIM_CALL_H_
