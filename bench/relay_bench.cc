// What the scheduler costs a request: calls and relayed messages per CPU-second of its process, and the time it adds
// before the first chunk. The engine is a fake that answers at once, so nothing else is in the figures; a bare gRPC
// service that streams the same messages from memory stands beside it in the same run.
//
//   relay_bench [--rounds N] [--calls N] [--streams N] [--tokens N]
//
// Four processes: scheduler, fake worker, bare service, and this one with the clients. CPU is the whole process's, user
// and system, as the kernel accounts it.
#include <grpcpp/grpcpp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "bench/machine.h"
#include "glog/logging.h"
#include "scheduler/server.h"
#include "tandem/v1/inference.grpc.pb.h"
#include "tests/rpc/fake_worker.h"

namespace tandem::bench {
namespace {

struct Options {
  int rounds = 5;     // of the figures per CPU-second
  int calls = 4000;   // of one token each, in a round
  int streams = 32;   // at a time
  int tokens = 200;   // of each stream of the relay figure
  int prompt = 32;    // token ids
  std::string model;  // folder, for its tokenizer
};

// ---- processes that tell their CPU time when asked ------------------------------------------------------------------

class Process {
 public:
  // `body` runs in the child: it starts to serve, returns its port, and the object that it returns beside keeps it
  // alive.
  Process(const std::function<std::pair<int, std::shared_ptr<void>>()>& body) {
    CHECK(pipe(ask_) == 0 && pipe(answer_) == 0);
    pid_ = fork();
    CHECK_GE(pid_, 0);
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const auto [port, alive] = body();
      Answer(port);
      for (char question; read(ask_[0], &question, 1) == 1;) {
        rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        Answer(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
      }
      _exit(0);
    }
    port_ = static_cast<int>(Read());
  }
  ~Process() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  int port() const { return port_; }
  double CpuSeconds() {
    CHECK_EQ(write(ask_[1], "?", 1), 1);
    return Read();
  }

 private:
  void Answer(double value) { CHECK_EQ(write(answer_[1], &value, sizeof(value)), static_cast<ssize_t>(sizeof(value))); }
  double Read() {
    double value = 0;
    CHECK_EQ(read(answer_[0], &value, sizeof(value)), static_cast<ssize_t>(sizeof(value))) << "a process failed";
    return value;
  }

  int ask_[2], answer_[2];
  pid_t pid_ = 0;
  int port_ = 0;
};

// ---- the bare service: the same messages from an engine in its own process ------------------------------------------

// Accepted, the chunks, Finished.
class BareCall final : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  explicit BareCall(uint32_t tokens) : tokens_(tokens) {}
  void Begin() {
    auto& accepted = *message_.mutable_accepted();
    accepted.set_request_id(std::string(32, 'a'));
    accepted.set_model_revision(std::string(64, 'b'));
    accepted.set_group("groups/1");
    accepted.set_numerics_id("fake");
    StartWrite(&message_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::CANCELLED);
    if (sent_ == tokens_) {
      message_.mutable_finished()->mutable_usage()->set_completion_tokens(tokens_);
      return StartWriteAndFinish(&message_, {}, grpc::Status::OK);
    }
    auto& chunk = *message_.mutable_chunk();
    chunk.Clear();
    chunk.set_offset(sent_++);
    chunk.add_token_ids(300);
    chunk.set_text("text ");
    StartWrite(&message_);
  }
  void OnDone() override { delete this; }

 private:
  const uint32_t tokens_;
  uint32_t sent_ = 0;
  v1::GenerateResponse message_;
};

class BareService final : public v1::InferenceService::CallbackService {
 public:
  // `engine`: calls go through a thread that computes them, as the fake worker's do; else the handler answers at once.
  explicit BareService(bool engine) {
    if (engine) engine_ = std::thread([this] { RunEngine(); });
  }

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(grpc::CallbackServerContext*,
                                                           const v1::GenerateRequest* request) override {
    auto* call = new BareCall(request->stopping().max_tokens());
    if (!engine_.joinable()) {
      call->Begin();
    } else {
      absl::MutexLock lock(&mu_);
      arrived_.push_back(call);
    }
    return call;
  }

 private:
  // Until the process is killed.
  void RunEngine() {
    for (std::vector<BareCall*> calls;; calls.clear()) {
      {
        absl::MutexLock lock(&mu_);
        mu_.Await(absl::Condition(
            +[](std::vector<BareCall*>* arrived) { return !arrived->empty(); }, &arrived_));
        calls.swap(arrived_);
      }
      for (BareCall* call : calls) call->Begin();
    }
  }

  std::thread engine_;
  absl::Mutex mu_;
  std::vector<BareCall*> arrived_;
};

std::pair<int, std::shared_ptr<void>> ServeBare(bool engine) {
  struct Bare {
    explicit Bare(bool engine) : service(engine) {}
    BareService service;
    std::unique_ptr<grpc::Server> server;
  };
  auto bare = std::make_shared<Bare>(engine);
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&bare->service);
  bare->server = builder.BuildAndStart();
  return {port, bare};
}

// ---- the bare relay: the same way through three processes, with nothing between the doors ---------------------------

// What gRPC alone costs on the scheduler's way: a call in, a message to the fake worker, its answer back, the chunks
// out. One call at a time.
class BareRelay {
 public:
  BareRelay() : inference_(this), worker_(this) {}

  v1::InferenceService::CallbackService* inference() { return &inference_; }
  v1::WorkerService::CallbackService* worker() { return &worker_; }

 private:
  class Link final : public grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse> {
   public:
    explicit Link(BareRelay* relay) : relay_(relay) { StartRead(&inbound_); }
    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      relay_->link_ = this;
      StartRead(&inbound_);
    }
    void Assign(const v1::GenerateRequest& request) {
      while (writing_.exchange(true)) std::this_thread::yield();  // the last one's end may come after its answer
      auto& assign = *outbound_.mutable_assign_request();
      assign.mutable_key()->set_request_id(std::string(16, 'r'));
      *assign.mutable_prompt_ids() = request.token_ids().ids();
      assign.set_max_tokens(request.stopping().max_tokens());
      StartWrite(&outbound_);
    }
    void OnWriteDone(bool) override { writing_ = false; }
    void OnDone() override { delete this; }

   private:
    BareRelay* const relay_;
    std::atomic<bool> writing_{false};
    v1::AttachRequest inbound_;
    v1::AttachResponse outbound_;
  };
  class Tokens final : public grpc::ServerReadReactor<v1::TokensRequest> {
   public:
    explicit Tokens(BareRelay* relay) : relay_(relay) { StartRead(&inbound_); }
    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      if (BareCall* call = relay_->call_.exchange(nullptr)) call->Begin();
      StartRead(&inbound_);
    }
    void OnDone() override { delete this; }

   private:
    BareRelay* const relay_;
    v1::TokensRequest inbound_;
  };
  struct Inference final : v1::InferenceService::CallbackService {
    explicit Inference(BareRelay* relay) : relay(relay) {}
    grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(grpc::CallbackServerContext*,
                                                             const v1::GenerateRequest* request) override {
      while (relay->link_ == nullptr) std::this_thread::yield();
      auto* call = new BareCall(request->stopping().max_tokens());
      CHECK(relay->call_.exchange(call) == nullptr) << "one call at a time";
      relay->link_.load()->Assign(*request);
      return call;
    }
    BareRelay* const relay;
  };
  struct Worker final : v1::WorkerService::CallbackService {
    explicit Worker(BareRelay* relay) : relay(relay) {}
    grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse>* Attach(grpc::CallbackServerContext*) override {
      return new Link(relay);
    }
    grpc::ServerReadReactor<v1::TokensRequest>* Tokens(grpc::CallbackServerContext*, v1::TokensResponse*) override {
      return new BareRelay::Tokens(relay);
    }
    BareRelay* const relay;
  };

  std::atomic<Link*> link_{nullptr};
  std::atomic<BareCall*> call_{nullptr};
  Inference inference_;
  Worker worker_;
};

std::pair<int, std::shared_ptr<void>> ServeBareRelay() {
  struct Served {
    BareRelay relay;
    std::unique_ptr<grpc::Server> server;
  };
  auto served = std::make_shared<Served>();
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(served->relay.inference());
  builder.RegisterService(served->relay.worker());
  served->server = builder.BuildAndStart();
  return {port, served};
}

std::pair<int, std::shared_ptr<void>> ServeScheduler(const Options& options, int report_workers_port) {
  config::ModelConfig model;
  model.name = "tiny";
  model.path = options.model;
  model.tensor_parallel = 1;
  auto catalog = scheduler::ModelCatalog::Load({model}, {});
  CHECK(catalog.ok()) << catalog.status();
  scheduler::ServerOptions server_options;
  server_options.clients = server_options.workers = server_options.admin = "127.0.0.1:0";
  server_options.expected_devices = 1;
  auto server = std::make_shared<scheduler::Server>(server_options, *std::move(catalog), nullptr);
  const absl::Status started = server->Start();
  CHECK(started.ok()) << started;
  const int port = server->workers_port();
  CHECK_EQ(write(report_workers_port, &port, sizeof(port)), static_cast<ssize_t>(sizeof(port)));
  return {server->clients_port(), server};
}

// ---- clients --------------------------------------------------------------------------------------------------------

class Clients {
 public:
  Clients(int port, const Options& options) : options_(options) {
    // Several connections, as several services would have.
    for (int i = 0; i < 4; ++i) {
      grpc::ChannelArguments arguments;
      arguments.SetInt("bench.channel", i);
      arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
      stubs_.push_back(v1::InferenceService::NewStub(
          grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials(), arguments)));
    }
  }

  struct Result {
    double seconds_to_first_chunk = 0;
    int messages = 0;  // chunks
    int tokens = 0;
  };

  Result Call(int which, int tokens) {
    v1::GenerateRequest request;
    request.set_model("tiny");
    for (int i = 0; i < options_.prompt; ++i) request.mutable_token_ids()->add_ids(100 + (which + i) % 1000);
    request.mutable_stopping()->set_max_tokens(tokens);
    request.mutable_stopping()->set_ignore_eos(true);
    request.mutable_sampling()->set_temperature(0);
    grpc::ClientContext context;
    Result result;
    const double begin = Now();
    auto stream = stubs_[which % stubs_.size()]->Generate(&context, request);
    for (v1::GenerateResponse message; stream->Read(&message);) {
      if (!message.has_chunk()) continue;
      if (result.messages++ == 0) result.seconds_to_first_chunk = Now() - begin;
      result.tokens += message.chunk().token_ids_size();
    }
    const grpc::Status status = stream->Finish();
    CHECK(status.ok()) << status.error_message();
    CHECK_EQ(result.tokens, tokens);
    return result;
  }

  // `count` calls, `options.streams` at a time; the sum of their results.
  Result Many(int count, int tokens) {
    std::atomic<int> next{0}, messages{0}, seen{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < options_.streams; ++t) {
      threads.emplace_back([&] {
        for (int i; (i = next.fetch_add(1)) < count;) {
          const Result result = Call(i, tokens);
          messages += result.messages;
          seen += result.tokens;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return {0, messages, seen};
  }

  // Microseconds, one call at a time.
  double MedianFirstChunk(int count) {
    std::vector<double> times;
    for (int i = 0; i < count; ++i) times.push_back(Call(i, 1).seconds_to_first_chunk * 1e6);
    std::nth_element(times.begin(), times.begin() + count / 2, times.end());
    return times[count / 2];
  }

 private:
  const Options& options_;
  std::vector<std::unique_ptr<v1::InferenceService::Stub>> stubs_;
};

struct Figures {
  std::vector<double> calls, messages, tokens;  // per CPU-second, a round each
};

void MeasureRound(Process& server, const Options& options, Figures* figures) {
  Clients clients(server.port(), options);
  clients.Many(200, 1);  // connections and caches
  double cpu = server.CpuSeconds();
  clients.Many(options.calls, 1);
  figures->calls.push_back(options.calls / (server.CpuSeconds() - cpu));
  cpu = server.CpuSeconds();
  const Clients::Result relayed = clients.Many(options.streams * 4, options.tokens);
  cpu = server.CpuSeconds() - cpu;
  figures->messages.push_back(relayed.messages / cpu);
  figures->tokens.push_back(relayed.tokens / cpu);
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app{"What the scheduler costs a request"};
  app.add_option("--rounds", options.rounds, "rounds of the figures per CPU-second")->check(CLI::Range(1, 1000));
  app.add_option("--calls", options.calls, "calls of one token in a round");
  app.add_option("--streams", options.streams, "streams at a time");
  app.add_option("--tokens", options.tokens, "tokens of each relayed stream");
  app.add_option("--model", options.model, "folder whose tokenizer is used")->default_val("models/tandem-tiny");
  CLI11_PARSE(app, argc, argv);
  google::InitGoogleLogging(argv[0]);
  FLAGS_minloglevel = google::GLOG_WARNING;
  PrintMachine(argc, argv);

  // Every process is forked before this one touches gRPC.
  int workers_port[2];
  CHECK_EQ(pipe(workers_port), 0);
  Process bare([] { return ServeBare(/*engine=*/false); });
  Process direct([] { return ServeBare(/*engine=*/true); });
  Process scheduler([&] { return ServeScheduler(options, workers_port[1]); });
  int port = 0;
  CHECK_EQ(read(workers_port[0], &port, sizeof(port)), static_cast<ssize_t>(sizeof(port)));
  Process relay(ServeBareRelay);
  const auto serve_worker = [](int port) -> std::pair<int, std::shared_ptr<void>> {
    testing::FakeWorker::Options fake;
    fake.address = absl::StrCat("127.0.0.1:", port);
    fake.step = std::chrono::microseconds(0);
    return {1, std::make_shared<testing::FakeWorker>(fake)};
  };
  Process worker([&] { return serve_worker(port); });
  Process relay_worker([&] { return serve_worker(relay.port()); });

  // Alternating, here and below: a virtual machine's wake-ups drift by a third within a minute.
  Figures without, with;
  for (int round = 0; round < options.rounds; ++round) {
    MeasureRound(bare, options, &without);
    MeasureRound(scheduler, options, &with);
  }
  std::vector<double> direct_us, relay_us, through_us, added_us, relay_added_us;
  for (int round = 0; round < 9; ++round) {
    direct_us.push_back(Clients(direct.port(), options).MedianFirstChunk(500));
    relay_us.push_back(Clients(relay.port(), options).MedianFirstChunk(500));
    through_us.push_back(Clients(scheduler.port(), options).MedianFirstChunk(500));
    added_us.push_back(through_us.back() - direct_us.back());
    relay_added_us.push_back(relay_us.back() - direct_us.back());
  }
  // The share is the median of the rounds' shares, which drift less than what they are of.
  const auto share = [](const std::vector<double>& part, const std::vector<double>& whole) {
    std::vector<double> shares;
    for (size_t i = 0; i < part.size(); ++i) shares.push_back(100 * part[i] / whole[i]);
    return Median(shares);
  };
  const auto span = [](const std::vector<double>& values) {
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    return absl::StrFormat("%.0f to %.0f", *least, *most);
  };
  std::printf("Generate, %d ids, max_tokens 1:  %8.0f calls per CPU-second of the scheduler (%d rounds: %s)\n",
              options.prompt, Median(with.calls), options.rounds, span(with.calls).c_str());
  std::printf("  bare gRPC                      %8.0f; the scheduler's share of it %.0f %%\n", Median(without.calls),
              share(with.calls, without.calls));
  std::printf("relay, %d streams:               %8.0f messages and %.0f tokens per CPU-second (messages: %s)\n",
              options.streams, Median(with.messages), Median(with.tokens), span(with.messages).c_str());
  std::printf("  bare gRPC                      %8.0f messages; the scheduler's share of it %.0f %%\n",
              Median(without.messages), share(with.messages, without.messages));
  std::printf("median time to first chunk:      %8.0f us;  the same engine directly %.0f us;  added %.0f us\n",
              Median(through_us), Median(direct_us), Median(added_us));
  std::printf("  of which gRPC, a relay without a scheduler: added %.0f us; the scheduler itself: %.0f us\n",
              Median(relay_added_us), Median(added_us) - Median(relay_added_us));
  return 0;
}

}  // namespace
}  // namespace tandem::bench

int main(int argc, char** argv) { return tandem::bench::Main(argc, argv); }
