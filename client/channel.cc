#include "client/channel.h"

#include <grpcpp/generic/generic_stub.h>

#include <algorithm>
#include <chrono>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace tandem::client {
namespace {

constexpr int kMostMessageBytes = 64 << 20;  // four times what the scheduler accepts: lists of a large cluster
constexpr auto kAskWhy = std::chrono::seconds(2);
// Who only reads sends nothing, and would never learn that the other end has vanished. The scheduler's doors take a
// ping every 10 s.
constexpr auto kPing = std::chrono::milliseconds(10'000);
constexpr auto kPingAnswered = std::chrono::milliseconds(5'000);

// A channel does not say why it has no connection; a call that needs one does.
std::string WhyNotConnected(const std::string& address, bool encrypted, const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kAskWhy);
  grpc::CompletionQueue queue;
  grpc::GenericStub stub(channel);
  const grpc::ByteBuffer empty;
  const auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", empty, &queue);
  call->StartCall();
  grpc::ByteBuffer answer;
  grpc::Status status;
  call->Finish(&answer, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
  const std::string why = status.error_message();
  const auto says = [&why](const char* words) { return absl::StrContains(why, words); };
  if (encrypted && says("andshake")) {  // "Ssl handshake failed", "handshaker shutdown"
    const char* const meaning = says("WRONG_VERSION_NUMBER") ? "; it speaks plain text"
                                : says("CERTIFICATE_VERIFY_FAILED") || says("certificate verify failed")
                                    ? "; its certificate is not of the given CA, or expired"
                                    : "";
    return absl::StrCat("the TLS handshake with ", address, " failed", meaning, ": ", why);
  }
  if (encrypted && says("Hostname")) return absl::StrCat("the certificate of ", address, " is not its own: ", why);
  if (says("losed") || says("reset") || says("SETTINGS")) {  // whoever is there heard us, and hung up
    return absl::StrCat(address,
                        encrypted ? " hangs up; it may require a certificate (--cert and --key): "
                                  : " hangs up; it may want TLS (--ca): ",
                        why);
  }
  return absl::StrCat("nobody listens at ", address, "; is the scheduler running?");
}

}  // namespace

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address, const security::Dialer& dialer) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // http_proxy is for the web, not for a scheduler on loopback
  // A scheduler that restarts is back within a second; streams that broke wait for it.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  // What one attempt may take, until the other end's first words: a scheduler on a busy machine is late with them.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(kPing.count()));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, static_cast<int>(kPingAnswered.count()));
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // no bound; it is two
  arguments.SetMaxReceiveMessageSize(kMostMessageBytes);
  return dialer.Dial(address, arguments);
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenChannel(const std::string& address, const security::Dialer& dialer,
                                                           absl::Duration timeout) {
  if (absl::Status status = dialer.Check(address); !status.ok()) return status;
  auto channel = MakeChannel(address, dialer);
  const auto deadline = absl::ToChronoTime(absl::Now() + timeout);
  for (auto state = channel->GetState(/*try_to_connect=*/true); state != GRPC_CHANNEL_READY;
       state = channel->GetState(true)) {
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN) {
      return absl::UnavailableError(WhyNotConnected(address, dialer.encrypted(), channel));
    }
    if (!channel->WaitForStateChange(state, deadline)) {
      return absl::UnavailableError(
          absl::StrCat("no answer from ", address, " within ", absl::FormatDuration(timeout)));
    }
  }
  return channel;
}

bool IsConnected(grpc::Channel& channel) { return channel.GetState(/*try_to_connect=*/false) == GRPC_CHANNEL_READY; }

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  // Without details an UNAVAILABLE is gRPC's own: "Socket closed" alone would not say whose.
  const bool lost = status.error_code() == grpc::StatusCode::UNAVAILABLE && status.error_details().empty();
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrCat(lost ? "the connection to the scheduler is lost: " : "", status.error_message()));
  google::rpc::Status details;
  if (!status.error_details().empty() && details.ParseFromString(status.error_details())) {
    for (const auto& detail : details.details()) result.SetPayload(detail.type_url(), absl::Cord(detail.value()));
  } else if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    google::rpc::ErrorInfo info;
    info.set_domain("tandem");
    info.set_reason("DEADLINE_EXCEEDED");
    result.SetPayload("type.googleapis.com/google.rpc.ErrorInfo", absl::Cord(info.SerializeAsString()));
  }
  return result;
}

void SetDeadline(grpc::ClientContext& context, absl::Time deadline) {
  if (deadline != absl::InfiniteFuture()) context.set_deadline(absl::ToChronoTime(deadline));
}

void AddMetadata(grpc::ClientContext& context, const Metadata& metadata) {
  const auto is_key = [](unsigned char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-'; };
  const auto is_text = [](unsigned char c) { return c >= 0x20 && c < 0x7F; };
  for (const auto& [key, value] : metadata) {
    if (key.empty() || !std::all_of(key.begin(), key.end(), is_key)) continue;
    if (!std::all_of(value.begin(), value.end(), is_text)) continue;
    context.AddMetadata(key, value);
  }
}

}  // namespace tandem::client
