// A whole scheduler in this process, behind its real doors, for tests that call it over gRPC. Each test begins with no
// worker and ends with nothing left in the core's books.
#ifndef TANDEM_TESTS_RPC_RPC_TEST_H_
#define TANDEM_TESTS_RPC_RPC_TEST_H_

#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "scheduler/core/invariants.h"
#include "scheduler/server.h"
#include "scheduler/tokenizer/incremental_detokenizer.h"
#include "tandem/v1/admin.grpc.pb.h"
#include "tandem/v1/inference.grpc.pb.h"
#include "tests/rpc/fake_worker.h"

namespace tandem::testing {

inline std::string Reason(const grpc::Status& status) {
  google::rpc::Status details;
  google::rpc::ErrorInfo info;
  if (!details.ParseFromString(status.error_details()) || details.details_size() == 0) return "";
  return details.details(0).UnpackTo(&info) ? info.reason() : "";
}

inline scheduler::ModelCatalog TinyCatalog() {
  const char* root = std::getenv("TANDEM_SOURCE_DIR");
  config::ModelConfig model;
  model.name = "tiny";
  model.aliases = {"default"};
  model.path = std::string(root == nullptr ? "." : root) + "/models/tandem-tiny";
  model.tensor_parallel = 1;
  auto catalog = scheduler::ModelCatalog::Load({model}, {});
  EXPECT_TRUE(catalog.ok()) << catalog.status();
  return *std::move(catalog);
}

struct Answer {
  std::string request_id;
  std::vector<uint32_t> ids;
  std::string text;
  std::optional<v1::Finished> finished;
  grpc::Status status;
  uint64_t seed = 0;
  int chunks = 0;
};

class RpcTest : public ::testing::Test {
 protected:
  RpcTest() : catalog_(TinyCatalog()) {
    scheduler::ServerOptions options;
    options.clients = options.workers = options.admin = "127.0.0.1:0";
    options.expected_devices = 1;
    options.detect_deadlocks = true;
    server_ = std::make_unique<scheduler::Server>(options, TinyCatalog(), nullptr);
    const absl::Status status = server_->Start();
    EXPECT_TRUE(status.ok()) << status;
    stub_ = v1::InferenceService::NewStub(Channel(server_->clients_port()));
    admin_ = v1::AdminService::NewStub(Channel(server_->admin_port()));
  }
  ~RpcTest() override {
    if (!stopped_) ExpectNothingLeft();
    workers_.clear();
    server_->Shutdown();
  }

  static std::shared_ptr<grpc::Channel> Channel(int port) {
    return grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials());
  }
  FakeWorker& AddWorker(FakeWorker::Options options = {}) {
    options.address = absl::StrCat("127.0.0.1:", server_->workers_port());
    workers_.push_back(std::make_unique<FakeWorker>(options));
    return *workers_.back();
  }
  // Asks the core between two steps.
  template <typename T>
  T Look(const std::function<T(const core::Core&)>& look) {
    T result;
    absl::Notification done;
    EXPECT_TRUE(server_->core().PostQuery([&](const core::Core& core) {
      result = look(core);
      done.Notify();
    }));
    done.WaitForNotification();
    return result;
  }
  static bool Eventually(const std::function<bool()>& check) {
    for (int i = 0; i < 3000; ++i) {
      if (check()) return true;
      absl::SleepFor(absl::Milliseconds(10));
    }
    return false;
  }
  bool WaitReady(int groups = 1) {
    return Eventually([&] {
      return Look<int>([](const core::Core& core) {
               return core.state().models.empty() ? 0 : core.state().ReadyReplicas(core.state().models[0]);
             }) >= groups;
    });
  }
  // No request in the core, none in the store, no booking, and the core's own books agree.
  void ExpectNothingLeft() {
    EXPECT_TRUE(Eventually([&] { return server_->store().living() == 0; })) << server_->store().living() << " live";
    EXPECT_TRUE(Eventually([&] {
      return Look<bool>([](const core::Core& core) {
        if (!core.state().requests.empty()) return false;
        for (const auto& [id, group] : core.state().groups) {
          if (group.kv.booked.value != 0 || !group.requests.empty()) return false;
        }
        return true;
      });
    })) << "a request or booking is left in the core";
    EXPECT_EQ(Look<std::string>(
                  [](const core::Core& core) { return absl::StrJoin(core::CheckInvariants(core.state()), "\n"); }),
              "");
  }

  static v1::GenerateRequest Ask(std::vector<uint32_t> prompt, uint32_t max_tokens) {
    v1::GenerateRequest request;
    request.set_model("tiny");
    request.mutable_token_ids()->mutable_ids()->Add(prompt.begin(), prompt.end());
    request.mutable_stopping()->set_max_tokens(max_tokens);
    return request;
  }
  template <typename Reader, typename Response>
  static void Drain(Reader& reader, Response& message, Answer* answer, size_t first = 0) {
    while (reader.Read(&message)) {
      if (message.has_accepted())
        answer->request_id = message.accepted().request_id(), answer->seed = message.accepted().seed();
      if (message.has_finished()) answer->finished = message.finished();
      if (!message.has_chunk()) continue;
      ++answer->chunks;
      EXPECT_EQ(message.chunk().offset(), first + answer->ids.size());
      answer->ids.insert(answer->ids.end(), message.chunk().token_ids().begin(), message.chunk().token_ids().end());
      answer->text += message.chunk().text();
    }
    answer->status = reader.Finish();
  }
  Answer Generate(const v1::GenerateRequest& request, std::optional<absl::Duration> deadline = {}) {
    grpc::ClientContext context;
    if (deadline) context.set_deadline(absl::ToChronoTime(absl::Now() + *deadline));
    auto reader = stub_->Generate(&context, request);
    v1::GenerateResponse message;
    Answer answer;
    Drain(*reader, message, &answer);
    return answer;
  }
  static std::vector<uint32_t> Chain(const std::vector<uint32_t>& prompt, size_t count) {
    TokenChain chain(FakeWorker::Options().low, FakeWorker::Options().high);
    for (uint32_t id : prompt) chain.Take(id);
    std::vector<uint32_t> ids;
    while (ids.size() < count) ids.push_back(chain.Next());
    return ids;
  }
  std::string Text(const std::vector<uint32_t>& ids) {
    tokenizer::IncrementalDetokenizer detokenizer(*catalog_.models()[0]->tokenizer, {.continues_text = true});
    std::string text;
    for (uint32_t id : ids) detokenizer.Append(static_cast<int32_t>(id), &text);
    detokenizer.Flush(&text);
    return text;
  }

  const scheduler::ModelCatalog catalog_;
  std::unique_ptr<scheduler::Server> server_;
  std::unique_ptr<v1::InferenceService::Stub> stub_;
  std::unique_ptr<v1::AdminService::Stub> admin_;
  std::vector<std::unique_ptr<FakeWorker>> workers_;
  bool stopped_ = false;  // the test ended the server itself
};

}  // namespace tandem::testing

#endif  // TANDEM_TESTS_RPC_RPC_TEST_H_
