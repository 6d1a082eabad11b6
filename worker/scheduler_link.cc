#include "worker/scheduler_link.h"

#include <glog/logging.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <condition_variable>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "tandem/v1/worker.grpc.pb.h"
#include "worker/sending_call.h"
#include "worker/translate.h"

namespace tandem::worker {
namespace {

using std::chrono::milliseconds;

constexpr uint32_t kProtocol = 1;
constexpr milliseconds kWelcomeTimeout{5000};
constexpr milliseconds kLeastWait{100};  // Between two attempts to dial; doubled up to the most, with jitter.
constexpr milliseconds kMostWait{1000};
constexpr milliseconds kPing{5000};  // The scheduler allows one each 2.5 s; unanswered for as long, the line is gone.
constexpr int kMostMessageBytes = 64 << 20;
constexpr size_t kMostHealth = 64;  // codes that wait or last

using AttachReactor = grpc::ClientBidiReactor<v1::AttachRequest, v1::AttachResponse>;
using TokensReactor = grpc::ClientWriteReactor<v1::TokensRequest>;

SteadyTime Now() { return std::chrono::steady_clock::now(); }

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::UnavailableError("the scheduler closed the stream");
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

// Answers that another attempt, as things stand, will get again.
bool IsRefusal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kUnauthenticated:
      return true;
    default:
      return false;
  }
}

// A worker that has been taken holds what others wait for: a token or certificate that is being renewed does not end
// it.
bool IsAboutCredentials(const absl::Status& status) {
  return absl::IsUnauthenticated(status) || absl::IsPermissionDenied(status);
}

class TokensCall final : public SendingCall<TokensReactor, v1::TokensRequest> {
 public:
  TokensCall() : SendingCall(Limits{}) {}
  v1::TokensResponse* response() { return &response_; }

 private:
  void OnEnd(const grpc::Status&) override {}
  v1::TokensResponse response_;
};

}  // namespace

class SchedulerLink::Impl : public std::enable_shared_from_this<Impl> {
 public:
  explicit Impl(Options options)
      : options_(std::move(options)),
        random_(options_.incarnation[0] | options_.incarnation[1] << 8),
        parked_(options_.parked) {}

  void Start(DeviceEngines* engine);
  void Report(tandem::worker::Report report);
  void ReportHealth(const HealthReport& report);
  void Leave(absl::string_view reason);
  void Close(milliseconds patience);

 private:
  class AttachCall;

  // ---- the link's thread
  void Run();
  absl::Status RunSession();
  bool EndSession();
  void Dial();
  // Says why there is no line, once for each reason.
  void Complain(const absl::Status& why, bool was_welcomed);
  void Beat();
  void LookAfterEngine();
  bool Sleep(milliseconds time);  // False if the link closes.
  v1::AttachRequest MakeHello();

  // ---- gRPC's threads
  void OnMessage(const v1::AttachResponse& message);
  void OnWelcome(const v1::Welcome& welcome);
  void OnMeasureLink(const v1::MeasureLink& message);
  void OnPark();
  void OnBadCommand(const v1::AttachResponse& message, const absl::Status& why);
  void OnAttachEnd(const grpc::Status& status);

  void SendTokens(const StepDone& step);
  void SendControl(v1::AttachRequest message);
  void SendHealth();  // REQUIRES: mu_ is held, the line is up
  void End(absl::Status why);

  const Options options_;
  DeviceEngines* engine_ = nullptr;
  std::unique_ptr<LinkProbe> probe_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  std::thread thread_;
  std::mt19937 random_;  // Of the thread, as are:
  uint64_t beats_ = 0;
  std::optional<SteadyTime> lost_at_;  // Since when a scheduler that was there is away.
  bool orphaned_ = false;
  std::string complaint_;  // Of this outage; said again when it becomes another.
  bool known_ = false;     // A scheduler has taken this worker once.
  const SteadyTime begun_ = Now();

  std::mutex mu_;
  std::condition_variable changed_;
  bool closing_ = false;  // Guarded by mu_, as are:
  bool over_ = false;     // on_end was called.
  bool parked_ = false;   // Nothing was held since a drain.
  std::shared_ptr<AttachCall> attach_;
  std::shared_ptr<TokensCall> tokens_;
  std::optional<absl::Status> attach_end_;
  bool welcomed_ = false;
  uint64_t line_ = 0;           // Number of the line; steps told for an earlier one come again in its replay.
  bool replay_wanted_ = false;  // The stream of tokens broke while the line is up.
  uint64_t highest_leader_ = 0;
  struct Said {
    HealthReport report;
    bool told = false;  // to this line
  };
  std::map<std::string, Said> health_;  // by code: what lasts, and what waits for a line
  milliseconds heartbeat_{500};
  milliseconds orphan_grace_{60000};
};

class SchedulerLink::Impl::AttachCall final : public SendingCall<AttachReactor, v1::AttachRequest> {
 public:
  explicit AttachCall(std::shared_ptr<Impl> link) : SendingCall(Limits{}), link_(std::move(link)) {}

  void OnReadDone(bool ok) override {
    if (!ok) return StopWriting();
    link_->OnMessage(inbound_);
    StartRead(&inbound_);
  }

 private:
  void OnLaunch() override { StartRead(&inbound_); }
  void OnEnd(const grpc::Status& status) override { link_->OnAttachEnd(status); }

  const std::shared_ptr<Impl> link_;
  v1::AttachResponse inbound_;
};

// ---- the owner ------------------------------------------------------------------------------------------------------

void SchedulerLink::Impl::Start(DeviceEngines* engine) {
  engine_ = engine;
  probe_ = std::make_unique<LinkProbe>(LinkProbe::Options{.join = options_.join_probe,
                                                          .open_road = options_.open_road,
                                                          .occupied = [engine] { return engine->Occupied(); },
                                                          .report =
                                                              [this](const ProbeReport& report) {
                                                                // Rank 0 speaks for both where all went well.
                                                                if (report.rank == 0 || !report.figures.ok())
                                                                  SendControl(ProbeMessage(report));
                                                              }});
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMostMessageBytes);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // A line of its own, also where several workers share a process: what breaks one must not break the others.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // A scheduler's host that vanished says nothing, and nothing is due from a scheduler that is well.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(kPing.count()));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, static_cast<int>(kPing.count()));
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // Our own waits between attempts are the shorter ones.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, static_cast<int>(kLeastWait.count()));
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, static_cast<int>(kLeastWait.count()));
  const int handshakes = options_.dialer.encrypted() ? 5 : 1;
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, handshakes * static_cast<int>(kMostWait.count()));
  stub_ = v1::WorkerService::NewStub(options_.dialer.Dial(options_.scheduler, arguments));
  thread_ = std::thread([this] { Run(); });
}

void SchedulerLink::Impl::Leave(absl::string_view reason) {
  v1::AttachRequest message;
  message.mutable_leaving()->set_reason(reason.data(), reason.size());
  SendControl(std::move(message));
}

void SchedulerLink::Impl::Close(milliseconds patience) {
  if (probe_) probe_->Stop();
  std::unique_lock lock(mu_);
  if (!thread_.joinable()) return;
  closing_ = true;
  if (tokens_) tokens_->CloseWhenSent();
  if (attach_) attach_->CloseWhenSent();
  changed_.notify_all();
  changed_.wait_for(lock, patience, [this] { return attach_ == nullptr; });
  if (tokens_) tokens_->Cancel();
  if (attach_) attach_->Cancel();
  lock.unlock();
  thread_.join();
}

void SchedulerLink::Impl::End(absl::Status why) {
  {
    std::lock_guard lock(mu_);
    if (closing_ || std::exchange(over_, true)) return;
  }
  options_.on_end(std::move(why));
}

// ---- reports --------------------------------------------------------------------------------------------------------

void SchedulerLink::Impl::Report(tandem::worker::Report report) {
  if (const auto* step = std::get_if<StepDone>(&report)) {
    SendTokens(*step);
  } else if (const auto* cache = std::get_if<CacheChanged>(&report)) {
    for (v1::AttachRequest& message : CacheMessages(*cache)) SendControl(std::move(message));
  } else {
    SendControl(ControlMessage(report));
  }
}

void SchedulerLink::Impl::ReportHealth(const HealthReport& report) {
  std::lock_guard lock(mu_);
  if (health_.size() >= kMostHealth && !health_.contains(report.code)) return;
  health_[report.code] = {report, false};
  if (welcomed_) SendHealth();
}

void SchedulerLink::Impl::SendHealth() {
  for (auto it = health_.begin(); it != health_.end();) {
    const HealthReport& report = it->second.report;
    if (!std::exchange(it->second.told, true)) attach_->Send(HealthMessage(report));
    const bool stays = report.lasting && !report.cleared;
    it = stays ? std::next(it) : health_.erase(it);
  }
}

void SchedulerLink::Impl::SendControl(v1::AttachRequest message) {
  std::lock_guard lock(mu_);
  if (attach_) attach_->Send(std::move(message));
}

void SchedulerLink::Impl::SendTokens(const StepDone& step) {
  std::lock_guard lock(mu_);
  if (!welcomed_ || step.line != line_) return;
  v1::TokensRequest message = TokensMessage(
      step, Now(),
      absl::string_view(reinterpret_cast<const char*>(options_.incarnation.data()), options_.incarnation.size()));
  if (!tokens_) {
    tokens_ = std::make_shared<TokensCall>();
    stub_->async()->Tokens(&tokens_->context(), tokens_->response(), tokens_.get());
    tokens_->Launch(std::move(message), tokens_);
    return;
  }
  if (tokens_->Send(std::move(message))) return;
  // What this stream did not bring comes again on the next one.
  tokens_.reset();
  ++line_;
  replay_wanted_ = true;
}

// ---- commands -------------------------------------------------------------------------------------------------------

void SchedulerLink::Impl::OnMessage(const v1::AttachResponse& message) {
  switch (message.command_case()) {
    case v1::AttachResponse::kWelcome:
      return OnWelcome(message.welcome());
    case v1::AttachResponse::kMeasureLink:
      return OnMeasureLink(message.measure_link());
    case v1::AttachResponse::kFormGroup: {
      std::lock_guard lock(mu_);
      parked_ = false;
    }
      [[fallthrough]];
    case v1::AttachResponse::kLoadModel:
    case v1::AttachResponse::kAssignRequest:
      probe_->Break("work came");  // It goes first.
      break;
    case v1::AttachResponse::kPark:
      return OnPark();
    default:
      break;
  }
  absl::StatusOr<std::optional<Command>> command = CommandFrom(message, Now());
  if (!command.ok()) return OnBadCommand(message, command.status());
  if (!command->has_value()) return;
  if (!engine_->Post(**std::move(command)))
    OnBadCommand(message, absl::ResourceExhaustedError("the engine's mailbox is full"));
}

void SchedulerLink::Impl::OnMeasureLink(const v1::MeasureLink& message) {
  absl::StatusOr<ProbeOrder> order = ProbeFrom(message);
  if (order.ok() && options_.join_probe) return probe_->Measure(*std::move(order));
  const absl::Status why = order.ok() ? absl::UnimplementedError("this worker can not measure links") : order.status();
  SendControl(ProbeMessage({message.probe(), static_cast<int>(message.rank()), message.peer_uuid(), why}));
}

// Whoever holds a group has nothing to give back yet: the scheduler parks empty workers only.
void SchedulerLink::Impl::OnPark() {
  if (!engine_->Status().empty()) {
    LOG(ERROR) << "told to park and in a group; the order is ignored";
    return;
  }
  probe_->Break("it parks");
  v1::AttachRequest message;
  message.mutable_parked();
  SendControl(std::move(message));
  if (options_.on_park) return options_.on_park();
  // This process is not the device's alone: it gives back what the device holds by holding no group.
  std::lock_guard lock(mu_);
  parked_ = true;
  if (attach_) attach_->CloseWhenSent();
}

// A request must get its end; an order for a group that can not be read is a fault of the scheduler's build.
void SchedulerLink::Impl::OnBadCommand(const v1::AttachResponse& message, const absl::Status& why) {
  LOG(ERROR) << "a command of the scheduler was refused: " << why.message();
  if (!message.has_assign_request()) return;
  const v1::AssignRequest& assign = message.assign_request();
  StepDone refused;
  refused.group = {.id = assign.group().group_id(),
                   .epoch = {.leader = assign.group().epoch().leader(), .counter = assign.group().epoch().counter()}};
  AttemptId id{.attempt = {.leader = assign.key().attempt().leader(), .counter = assign.key().attempt().counter()}};
  if (assign.key().request_id().size() != id.request.size()) return;
  std::copy(assign.key().request_id().begin(), assign.key().request_id().end(), id.request.begin());
  refused.updates.push_back({id, Ended{.how = Ended::How::kRefused, .message = std::string(why.message())}});
  {
    std::lock_guard lock(mu_);
    refused.line = line_;
  }
  SendTokens(refused);
}

void SchedulerLink::Impl::OnWelcome(const v1::Welcome& welcome) {
  uint64_t line;
  {
    std::lock_guard lock(mu_);
    if (!attach_ || welcomed_) return;
    if (welcome.protocol() != kProtocol || welcome.leader_epoch() < highest_leader_) {
      LOG(ERROR) << "not attached: the scheduler at " << options_.scheduler << " speaks protocol " << welcome.protocol()
                 << " under leader epoch " << welcome.leader_epoch() << ", this worker speaks " << kProtocol
                 << " and obeys " << highest_leader_;
      attach_->Cancel();
      return;
    }
    welcomed_ = true;
    line = ++line_;
    highest_leader_ = welcome.leader_epoch();
    for (auto& [code, said] : health_) said.told = false;
    SendHealth();
    if (welcome.heartbeat_ms() > 0) heartbeat_ = milliseconds(welcome.heartbeat_ms());
    if (welcome.orphan_grace_ms() > 0) orphan_grace_ = milliseconds(welcome.orphan_grace_ms());
    changed_.notify_all();
  }
  LOG(INFO) << "attached to " << options_.scheduler << " as " << welcome.device_name() << ", leader epoch "
            << welcome.leader_epoch();
  engine_->Post(ObeyLeader{.leader_epoch = welcome.leader_epoch(), .retention = milliseconds(welcome.retention_ms())});
  engine_->Post(ReplayEverything{line});
}

void SchedulerLink::Impl::OnAttachEnd(const grpc::Status& status) {
  std::lock_guard lock(mu_);
  attach_end_ = FromGrpc(status);
  changed_.notify_all();
}

// ---- the link's thread ----------------------------------------------------------------------------------------------

void SchedulerLink::Impl::Run() {
  milliseconds wait = kLeastWait;
  while (true) {
    Dial();
    absl::Status why = RunSession();
    const bool was_welcomed = EndSession();
    {
      std::lock_guard lock(mu_);
      if (closing_) return;
    }
    known_ |= was_welcomed;
    if (IsRefusal(why) && !(known_ && IsAboutCredentials(why))) return End(std::move(why));
    if (was_welcomed) wait = kLeastWait;
    Complain(why, was_welcomed);
    if (!Sleep(wait / 2 + milliseconds(random_() % (wait.count() / 2 + 1)))) return;
    wait = std::min(wait * 2, kMostWait);
  }
}

void SchedulerLink::Impl::Complain(const absl::Status& why, bool was_welcomed) {
  if (!was_welcomed && complaint_ == why.message()) return;
  if (known_) {
    LOG(WARNING) << "no scheduler at " << options_.scheduler << " (" << why.message() << "), dialling again";
  } else if (Now() < begun_ + options_.most_quiet) {
    return;
  } else {
    LOG(INFO) << "waiting for a scheduler at " << options_.scheduler << " (" << why.message() << ")";
  }
  complaint_ = std::string(why.message());
}

void SchedulerLink::Impl::Dial() {
  auto call = std::make_shared<AttachCall>(shared_from_this());
  {
    // From here on reports queue up behind the Hello, so that none falls between it and what it says.
    std::lock_guard lock(mu_);
    attach_ = call;
    attach_end_.reset();
  }
  v1::AttachRequest hello = MakeHello();
  stub_->async()->Attach(&call->context(), call.get());
  call->Launch(std::move(hello), call);
}

v1::AttachRequest SchedulerLink::Impl::MakeHello() {
  v1::AttachRequest message;
  v1::Hello& hello = *message.mutable_hello();
  hello.set_protocol_min(kProtocol);
  hello.set_protocol_max(kProtocol);
  hello.set_build(options_.build);
  hello.set_incarnation(options_.incarnation.data(), options_.incarnation.size());
  FillDeviceFacts(*options_.device, *hello.mutable_device());
  hello.set_numerics(options_.numerics);
  hello.set_rendezvous(options_.rendezvous);
  for (const ShardStatus& status : engine_->Status()) {
    *hello.add_shards() = HeldShardFrom(status, engine_->Held(status.group));
  }
  std::lock_guard lock(mu_);
  hello.set_parked(parked_);
  hello.set_highest_leader_epoch(highest_leader_);
  return message;
}

// Beats until the stream ends, and says why it did.
absl::Status SchedulerLink::Impl::RunSession() {
  const SteadyTime dialled = Now();
  SteadyTime next_beat = dialled;
  std::unique_lock lock(mu_);
  while (!attach_end_) {
    const SteadyTime now = Now();
    if (welcomed_ && now >= next_beat) {
      next_beat = now + heartbeat_;
      lost_at_.reset();
      orphaned_ = false;
      complaint_.clear();
      const bool replay = std::exchange(replay_wanted_, false);
      const uint64_t line = line_;
      lock.unlock();
      Beat();
      if (replay) engine_->Post(ReplayEverything{line});
      lock.lock();
      continue;
    }
    if (!welcomed_ && now - dialled > kWelcomeTimeout) attach_->Cancel();
    if (closing_ && attach_) attach_->CloseWhenSent();
    const SteadyTime wake = welcomed_ ? next_beat : now + kLeastWait;
    changed_.wait_until(lock, wake, [&] { return attach_end_.has_value() || (welcomed_ && Now() >= next_beat); });
    lock.unlock();
    LookAfterEngine();
    lock.lock();
  }
  return *attach_end_;
}

// Whether the scheduler had welcomed us.
bool SchedulerLink::Impl::EndSession() {
  std::lock_guard lock(mu_);
  attach_.reset();
  if (tokens_ && !closing_) tokens_->Cancel();
  tokens_.reset();
  replay_wanted_ = false;
  changed_.notify_all();
  const bool was_welcomed = std::exchange(welcomed_, false);
  if (was_welcomed && !lost_at_) lost_at_ = Now();
  return was_welcomed;
}

void SchedulerLink::Impl::Beat() {
  v1::AttachRequest message;
  v1::Heartbeat& beat = *message.mutable_heartbeat();
  beat.set_sequence(++beats_);
  beat.set_memory_free_bytes(options_.device->FreeOfTotal());
  beat.set_memory_process_bytes(options_.device->HeldBytes());
  for (const ShardStatus& status : engine_->Status()) *beat.add_shards() = LoadFrom(status);
  SendControl(std::move(message));
}

void SchedulerLink::Impl::LookAfterEngine() {
  milliseconds grace;
  {
    std::lock_guard lock(mu_);
    grace = orphan_grace_;
  }
  if (lost_at_ && !orphaned_ && Now() - *lost_at_ > grace) {
    orphaned_ = true;
    engine_->Post(AbortEverything{absl::StrCat("no scheduler for ", grace.count(), " ms")});
  }
  const milliseconds overdue = engine_->AbortOverdue();
  if (overdue > options_.most_abort_time) {
    End(absl::DeadlineExceededError(absl::StrCat("an abort hangs for ", overdue.count(), " ms")));
  }
}

bool SchedulerLink::Impl::Sleep(milliseconds time) {
  const SteadyTime until = Now() + time;
  LookAfterEngine();
  std::unique_lock lock(mu_);
  changed_.wait_until(lock, until, [this] { return closing_; });
  return !closing_;
}

// ---- the shell ------------------------------------------------------------------------------------------------------

SchedulerLink::SchedulerLink(Options options) : impl_(std::make_shared<Impl>(std::move(options))) {}
SchedulerLink::~SchedulerLink() { Close(milliseconds(0)); }
void SchedulerLink::Start(DeviceEngines* engine) { impl_->Start(engine); }
void SchedulerLink::Report(tandem::worker::Report report) { impl_->Report(std::move(report)); }
void SchedulerLink::ReportHealth(const HealthReport& report) { impl_->ReportHealth(report); }
void SchedulerLink::Leave(absl::string_view reason) { impl_->Leave(reason); }
void SchedulerLink::Close(milliseconds patience) { impl_->Close(patience); }

}  // namespace tandem::worker
