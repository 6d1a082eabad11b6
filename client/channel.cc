#include "client/channel.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace tandem::client {
namespace {

constexpr int kMostMessageBytes = 64 << 20;  // four times what the scheduler accepts: lists of a large cluster

}  // namespace

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // http_proxy is for the web, not for a scheduler on loopback
  // A scheduler that restarts is back within a second; streams that broke wait for it.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetMaxReceiveMessageSize(kMostMessageBytes);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenChannel(const std::string& address, absl::Duration timeout) {
  auto channel = MakeChannel(address);
  const auto deadline = absl::ToChronoTime(absl::Now() + timeout);
  for (auto state = channel->GetState(/*try_to_connect=*/true); state != GRPC_CHANNEL_READY;
       state = channel->GetState(true)) {
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN) {
      return absl::UnavailableError(absl::StrCat("nobody listens at ", address, "; is the scheduler running?"));
    }
    if (!channel->WaitForStateChange(state, deadline)) {
      return absl::UnavailableError(
          absl::StrCat("no answer from ", address, " within ", absl::FormatDuration(timeout)));
    }
  }
  return channel;
}

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
