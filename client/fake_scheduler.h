// A scheduler for tests: both services in this process, on a port of its own, saying what the test tells them to.
//
// `on_generate` runs on a thread of gRPC's for each call; `admin` answers with what stands in its members. The test
// owns it and sets everything up before the first call.
#ifndef TANDEM_CLIENT_FAKE_SCHEDULER_H_
#define TANDEM_CLIENT_FAKE_SCHEDULER_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tandem/v1/admin.grpc.pb.h"
#include "tandem/v1/inference.grpc.pb.h"

namespace tandem::client {

// A failure in the words of the scheduler. `retry_ms` < 0: without RetryInfo.
inline grpc::Status Failure(grpc::StatusCode code, const std::string& reason, const std::string& message,
                            int retry_ms = -1) {
  google::rpc::Status status;
  status.set_code(code);
  status.set_message(message);
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("tandem");
  info.mutable_metadata()->insert({"waiting", "7"});
  status.add_details()->PackFrom(info);
  if (retry_ms >= 0) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(retry_ms / 1000);
    retry.mutable_retry_delay()->set_nanos(retry_ms % 1000 * 1000000);
    status.add_details()->PackFrom(retry);
  }
  return grpc::Status(code, message, status.SerializeAsString());
}

class FakeScheduler {
 public:
  using Writer = grpc::ServerWriter<v1::GenerateResponse>;

  FakeScheduler() : inference_(*this), admin_(*this) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&inference_);
    builder.RegisterService(&admin_);
    server_ = builder.BuildAndStart();
  }
  ~FakeScheduler() {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

  // Called with the number of the call, from 1.
  std::function<grpc::Status(int call, grpc::ServerContext&, const v1::GenerateRequest&, Writer&)> on_generate;
  std::atomic<int> generate_calls = 0;
  // Unset: RESUME_UNKNOWN.
  using ResumeWriter = grpc::ServerWriter<v1::ResumeResponse>;
  std::function<grpc::Status(int call, const v1::ResumeRequest&, ResumeWriter&)> on_resume;
  std::atomic<int> resume_calls = 0;
  std::atomic<int> aborted_keys = 0;

  v1::ListModelsResponse models;  // none: ListModels answers MODEL_LOADING

  // What the admin answers.
  v1::GetStatusResponse status;
  std::function<grpc::Status(const v1::DrainDeviceRequest&, grpc::ServerContext&,
                             grpc::ServerWriter<v1::DrainDeviceResponse>&)>
      on_drain;
  std::function<grpc::Status(const v1::CordonDeviceRequest&, v1::CordonDeviceResponse&)> on_cordon;
  v1::ExplainRequestResponse explanation;
  v1::GetTopologyResponse topology;

  // ---- what a Generate handler writes ----
  static void Accept(Writer& writer, const std::string& id = "00112233445566778899aabbccddeeff") {
    v1::GenerateResponse response;
    response.mutable_accepted()->set_request_id(id);
    response.mutable_accepted()->set_group("groups/7");
    response.mutable_accepted()->set_seed(42);
    writer.Write(response);
  }
  static bool Send(Writer& writer, uint32_t offset, const std::string& text, std::initializer_list<uint32_t> ids) {
    v1::GenerateResponse response;
    response.mutable_chunk()->set_offset(offset);
    response.mutable_chunk()->set_text(text);
    for (const uint32_t id : ids) response.mutable_chunk()->add_token_ids(id);
    return writer.Write(response);
  }
  static grpc::Status Finish(Writer& writer, uint32_t completion_tokens) {
    v1::GenerateResponse response;
    response.mutable_finished()->set_reason(v1::LENGTH);
    response.mutable_finished()->mutable_usage()->set_prompt_tokens(3);
    response.mutable_finished()->mutable_usage()->set_completion_tokens(completion_tokens);
    writer.Write(response);
    return grpc::Status::OK;
  }
  static grpc::Status UntilCancelled(grpc::ServerContext& context) {
    while (!context.IsCancelled()) absl::SleepFor(absl::Milliseconds(1));
    return grpc::Status::CANCELLED;
  }

 private:
  class Inference : public v1::InferenceService::Service {
   public:
    explicit Inference(FakeScheduler& owner) : owner_(owner) {}
    grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request, Writer* writer) override {
      return owner_.on_generate(++owner_.generate_calls, *context, *request, *writer);
    }
    grpc::Status Resume(grpc::ServerContext*, const v1::ResumeRequest* request, ResumeWriter* writer) override {
      const int call = ++owner_.resume_calls;
      if (owner_.on_resume) return owner_.on_resume(call, *request, *writer);
      return Failure(grpc::StatusCode::NOT_FOUND, "RESUME_UNKNOWN", "no such request");
    }
    grpc::Status Tokenize(grpc::ServerContext*, const v1::TokenizeRequest* request,
                          v1::TokenizeResponse* response) override {
      for (const char byte : request->text()) response->add_token_ids(static_cast<unsigned char>(byte));
      return grpc::Status::OK;
    }
    grpc::Status Abort(grpc::ServerContext*, const v1::AbortRequest* request, v1::AbortResponse* response) override {
      owner_.aborted_keys += request->idempotency_keys_size();
      if (request->request_ids_size() > 0) response->add_aborted(request->request_ids(0));
      return grpc::Status::OK;
    }
    grpc::Status ListModels(grpc::ServerContext*, const v1::ListModelsRequest*,
                            v1::ListModelsResponse* response) override {
      if (owner_.models.models_size() == 0) return Failure(grpc::StatusCode::UNAVAILABLE, "MODEL_LOADING", "not yet");
      *response = owner_.models;
      return grpc::Status::OK;
    }

   private:
    FakeScheduler& owner_;
  };

  class Admin : public v1::AdminService::Service {
   public:
    explicit Admin(FakeScheduler& owner) : owner_(owner) {}
    grpc::Status GetStatus(grpc::ServerContext*, const v1::GetStatusRequest*,
                           v1::GetStatusResponse* response) override {
      *response = owner_.status;
      return grpc::Status::OK;
    }
    grpc::Status ListDevices(grpc::ServerContext*, const v1::ListDevicesRequest*,
                             v1::ListDevicesResponse* response) override {
      *response->mutable_devices() = owner_.status.devices();
      return grpc::Status::OK;
    }
    grpc::Status GetGroup(grpc::ServerContext*, const v1::GetGroupRequest* request,
                          v1::GetGroupResponse* response) override {
      for (const v1::Group& group : owner_.status.groups()) {
        if (group.name() == request->name()) {
          *response->mutable_group() = group;
          return grpc::Status::OK;
        }
      }
      return {grpc::StatusCode::NOT_FOUND, absl::StrCat("no ", request->name())};
    }
    grpc::Status CordonDevice(grpc::ServerContext*, const v1::CordonDeviceRequest* request,
                              v1::CordonDeviceResponse* response) override {
      return owner_.on_cordon(*request, *response);
    }
    grpc::Status DrainDevice(grpc::ServerContext* context, const v1::DrainDeviceRequest* request,
                             grpc::ServerWriter<v1::DrainDeviceResponse>* writer) override {
      return owner_.on_drain(*request, *context, *writer);
    }
    grpc::Status ExplainRequest(grpc::ServerContext*, const v1::ExplainRequestRequest*,
                                v1::ExplainRequestResponse* response) override {
      *response = owner_.explanation;
      return grpc::Status::OK;
    }
    grpc::Status GetTopology(grpc::ServerContext*, const v1::GetTopologyRequest*,
                             v1::GetTopologyResponse* response) override {
      *response = owner_.topology;
      return grpc::Status::OK;
    }

   private:
    FakeScheduler& owner_;
  };

  Inference inference_;
  Admin admin_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace tandem::client

#endif  // TANDEM_CLIENT_FAKE_SCHEDULER_H_
