#include "tests/rpc/fake_worker.h"

#include <grpcpp/create_channel.h>

#include <random>
#include <utility>

namespace tandem::testing {
namespace {

constexpr absl::Duration kHeartbeat = absl::Milliseconds(200);

std::string RandomIncarnation() {
  std::random_device random;
  std::string bytes(16, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

}  // namespace

void TokenChain::Take(uint32_t id) {
  hash_ ^= id + 0x9e3779b97f4a7c15 + (hash_ << 6) + (hash_ >> 2);
  hash_ *= 0xff51afd7ed558ccd;
  hash_ ^= hash_ >> 32;
}

uint32_t TokenChain::Next() {
  const uint32_t id = low_ + static_cast<uint32_t>(hash_ % (high_ - low_));
  Take(id);
  return id;
}

FakeWorker::FakeWorker(Options options) : options_(std::move(options)) {
  stub_ = v1::WorkerService::NewStub(grpc::CreateChannel(options_.address, grpc::InsecureChannelCredentials()));
  attach_ = stub_->Attach(&attach_context_);
  v1::AttachRequest message;
  auto& hello = *message.mutable_hello();
  hello.set_protocol_min(1);
  hello.set_protocol_max(1);
  hello.set_build("fake");
  hello.set_incarnation(RandomIncarnation());
  hello.set_rendezvous("unix-abstract:fake");
  hello.set_numerics("fake");
  auto& device = *hello.mutable_device();
  device.set_node(options_.node);
  device.set_index(options_.index);
  device.set_kind("cpu");
  device.set_uuid("CPU-" + options_.node + "-" + std::to_string(options_.index));
  device.set_memory_total_bytes(options_.memory_bytes);
  device.set_memory_free_bytes(options_.memory_bytes);
  device.set_memory_utilization(0.9);
  device.set_threads(1);
  device.set_numa_node(-1);
  Say(message);
  commands_ = std::thread([this] { ReadCommands(); });
  steps_ = std::thread([this] { RunSteps(); });
  heartbeats_ = std::thread([this] {
    v1::AttachRequest beat;
    while (true) {
      {
        absl::MutexLock lock(&mu_);
        mu_.AwaitWithTimeout(absl::Condition(&stopping_), kHeartbeat);
        if (stopping_) return;
        auto& heartbeat = *beat.mutable_heartbeat();
        heartbeat.set_sequence(heartbeat.sequence() + 1);
        heartbeat.set_memory_free_bytes(options_.memory_bytes);
        heartbeat.clear_shards();
        if (group_.group_id() == 0) continue;
        auto& load = *heartbeat.add_shards();
        *load.mutable_group() = group_;
        load.set_progress(step_);
        load.set_free_blocks(options_.kv_blocks);
        load.set_running(running_.size());
        load.set_steps(step_);
      }
      Say(beat);
    }
  });
}

FakeWorker::~FakeWorker() {
  Die();
  commands_.join();
  steps_.join();
  heartbeats_.join();
}

void FakeWorker::Freeze(bool frozen) {
  absl::MutexLock lock(&mu_);
  frozen_ = frozen;
  changed_.SignalAll();
}

void FakeWorker::RepeatEverything() {
  absl::MutexLock lock(&mu_);
  repeat_ = true;
}

void FakeWorker::SkipAt(size_t index) {
  absl::MutexLock lock(&mu_);
  skip_at_ = index;
}

void FakeWorker::Die() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    changed_.SignalAll();
  }
  attach_context_.TryCancel();
  tokens_context_.TryCancel();
}

size_t FakeWorker::running() {
  absl::MutexLock lock(&mu_);
  return running_.size();
}

size_t FakeWorker::assigned() {
  absl::MutexLock lock(&mu_);
  return assigned_;
}

grpc::Status FakeWorker::end() {
  absl::MutexLock lock(&mu_);
  return end_;
}

void FakeWorker::Say(const v1::AttachRequest& report) {
  absl::MutexLock lock(&write_mu_);
  attach_->Write(report);
}

void FakeWorker::ReadCommands() {
  v1::AttachResponse command;
  while (attach_->Read(&command)) Obey(command);
  const grpc::Status status = attach_->Finish();
  absl::MutexLock lock(&mu_);
  end_ = status;
  stopping_ = true;
  changed_.SignalAll();
}

void FakeWorker::Obey(const v1::AttachResponse& command) {
  v1::AttachRequest report;
  switch (command.command_case()) {
    case v1::AttachResponse::kFormGroup:
      *report.mutable_group_formed()->mutable_group() = command.form_group().group();
      report.mutable_group_formed()->set_rank(command.form_group().rank());
      return Say(report);
    case v1::AttachResponse::kLoadModel: {
      const auto& load = command.load_model();
      auto& loaded = *report.mutable_model_loaded();
      *loaded.mutable_group() = load.group();
      loaded.mutable_memory()->set_weight_bytes(1 << 20);
      loaded.mutable_memory()->set_kv_bytes(load.kv_target_bytes());
      loaded.set_numerics_id("fake");
      Say(report);
      {
        absl::MutexLock lock(&mu_);
        group_ = load.group();
      }
      v1::AttachRequest second;
      auto& ready = *second.mutable_group_ready();
      *ready.mutable_group() = load.group();
      ready.set_kv_blocks(options_.kv_blocks);
      ready.set_block_tokens(16);
      ready.set_max_sequences(options_.max_sequences);
      ready.set_max_model_len(load.max_model_len());
      ready.set_numerics_id("fake");
      return Say(second);
    }
    case v1::AttachResponse::kDissolveGroup:
      *report.mutable_group_left()->mutable_group() = command.dissolve_group().group();
      return Say(report);
    case v1::AttachResponse::kAbortGroup:
      *report.mutable_group_left()->mutable_group() = command.abort_group().group();
      return Say(report);
    case v1::AttachResponse::kPark:  // a real one becomes a new process
      report.mutable_parked();
      Say(report);
      return Die();
    case v1::AttachResponse::kAssignRequest: {
      const auto& request = command.assign_request();
      Running running{request, TokenChain(options_.low, options_.high), {}, false};
      for (uint32_t id : request.prompt_ids()) running.chain.Take(id);
      for (uint32_t id : request.output_ids()) {
        running.chain.Take(id);
        running.output.push_back(id);
      }
      absl::MutexLock lock(&mu_);
      ++assigned_;
      running_.insert_or_assign(request.key().request_id(), std::move(running));
      changed_.SignalAll();
      return;
    }
    case v1::AttachResponse::kAbortAttempt: {
      absl::MutexLock lock(&mu_);
      const auto it = running_.find(command.abort_attempt().key().request_id());
      if (it == running_.end()) return;
      v1::RequestUpdate update;
      *update.mutable_key() = it->second.request.key();
      update.mutable_ended()->set_how(v1::Ended::ABORTED);
      update.mutable_ended()->set_output_tokens(it->second.output.size());
      running_.erase(it);
      aborted_.push_back(std::move(update));
      changed_.SignalAll();
      return;
    }
    default:
      return;
  }
}

void FakeWorker::Step(v1::TokensRequest* message) {
  *message->mutable_group() = group_;
  message->set_step(++step_);
  for (; !aborted_.empty(); aborted_.pop_front()) *message->add_updates() = aborted_.front();
  if (frozen_) return;
  for (auto it = running_.begin(); it != running_.end();) {
    Running& running = it->second;
    if (!running.started) {
      running.started = true;
      auto& update = *message->add_updates();
      *update.mutable_key() = running.request.key();
      update.mutable_started();
    }
    auto& update = *message->add_updates();
    *update.mutable_key() = running.request.key();
    auto& produced = *update.mutable_produced();
    const size_t known = static_cast<size_t>(running.request.output_ids_size());
    const size_t made = running.output.size();
    const bool skips = skip_at_ == made;
    if (skips) skip_at_.reset();
    for (uint32_t i = 0; i < options_.tokens_per_step && running.output.size() < running.request.max_tokens(); ++i) {
      running.output.push_back(running.chain.Next());
    }
    const size_t begin = skips ? made + 1 : repeat_ ? known : made;
    produced.set_first_index(begin);
    for (size_t i = begin; i < running.output.size(); ++i) {
      produced.add_token_ids(running.output[i]);
      if (running.request.has_logprobs()) {
        auto& chosen = *produced.add_logprobs()->mutable_chosen();
        chosen.set_token_id(running.output[i]);
        chosen.set_logprob(-0.5f);
      }
    }
    if (running.output.size() < running.request.max_tokens()) {
      ++it;
      continue;
    }
    auto& end = *message->add_updates();
    *end.mutable_key() = running.request.key();
    end.mutable_ended()->set_how(v1::Ended::LENGTH_REACHED);
    end.mutable_ended()->set_output_tokens(running.output.size());
    it = running_.erase(it);
  }
  repeat_ = false;
}

void FakeWorker::RunSteps() {
  v1::TokensResponse response;
  auto tokens = stub_->Tokens(&tokens_context_, &response);
  while (true) {
    v1::TokensRequest message;
    {
      absl::MutexLock lock(&mu_);
      while (!stopping_ && aborted_.empty() && (running_.empty() || frozen_)) changed_.Wait(&mu_);
      if (stopping_) break;
      Step(&message);
    }
    if (!tokens->Write(message)) break;
    if (options_.step.count() > 0) std::this_thread::sleep_for(options_.step);
  }
  tokens->WritesDone();
  tokens->Finish();
}

}  // namespace tandem::testing
