#include "base/security/dialer.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <grpcpp/support/channel_arguments.h>
#include <grpcpp/support/client_interceptor.h>

#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/security/callback_threads.h"
#include "base/security/pem_files.h"
#include "base/security/secret_file.h"
#include "base/security/token_file.h"
#include "base/steady_wait.h"

namespace tandem::security {
namespace {

constexpr absl::Duration kReadAgain = absl::Seconds(10);

bool StaysOnThisMachine(absl::string_view address) {
  if (absl::StartsWith(address, "unix:")) return true;
  const absl::string_view host = address.substr(0, address.rfind(':'));
  return host == "localhost" || host == "[::1]" || absl::StartsWith(host, "127.");
}

// The token as its file has it now, or as it was when the file was last readable.
class Token {
 public:
  Token(std::string file, std::string token) : file_(std::move(file)), token_(std::move(token)) {}

  std::string Header() {
    absl::MutexLock lock(&mu_);
    if (!file_.empty() && SteadySince(read_) >= kReadAgain) {
      read_ = std::chrono::steady_clock::now();
      if (const auto text = ReadBounded("token file", file_); text.ok()) {
        if (auto token = ParseOwnToken(*text, file_); token.ok()) token_ = *std::move(token);
      }
    }
    return absl::StrCat("Bearer ", token_);
  }

 private:
  const std::string file_;  // empty: it stays as it is
  absl::Mutex mu_;
  std::string token_ ABSL_GUARDED_BY(mu_);
  SteadyTime read_ ABSL_GUARDED_BY(mu_) = std::chrono::steady_clock::now();
};

// gRPC's own call credentials refuse a channel without TLS, on loopback too.
class TokenBearer final : public grpc::experimental::Interceptor {
 public:
  explicit TokenBearer(std::shared_ptr<Token> token) : token_(std::move(token)) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(grpc::experimental::InterceptionHookPoints::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->emplace("authorization", token_->Header());
    }
    methods->Proceed();
  }

 private:
  const std::shared_ptr<Token> token_;
};

class TokenBearers final : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit TokenBearers(std::shared_ptr<Token> token) : token_(std::move(token)) {}
  grpc::experimental::Interceptor* CreateClientInterceptor(grpc::experimental::ClientRpcInfo*) override {
    return new TokenBearer(token_);
  }

 private:
  const std::shared_ptr<Token> token_;
};

std::shared_ptr<grpc::ChannelCredentials> TlsOf(const DialSettings& settings) {
  namespace tls = grpc::experimental;
  const auto again = static_cast<unsigned>(absl::ToInt64Seconds(kReadAgain));
  tls::TlsChannelCredentialsOptions options;
  options.set_certificate_verifier(std::make_shared<tls::HostNameCertificateVerifier>());
  if (settings.certificate.empty()) {
    options.set_certificate_provider(std::make_shared<tls::FileWatcherCertificateProvider>(settings.ca, again));
  } else {
    options.set_certificate_provider(
        std::make_shared<tls::FileWatcherCertificateProvider>(settings.key, settings.certificate, settings.ca, again));
    options.watch_identity_key_cert_pairs();
  }
  options.watch_root_certs();
  return tls::TlsCredentials(options);
}

}  // namespace

struct Dialer::Means {
  std::shared_ptr<grpc::ChannelCredentials> tls;  // null: plain text
  std::string server_name;
  std::shared_ptr<Token> token;  // null: none
};

Dialer::Dialer() : means_(std::make_shared<Means>()) {}

absl::StatusOr<Dialer> Dialer::Open(const DialSettings& settings, std::vector<std::string>* warnings) {
  if (settings.certificate.empty() != settings.key.empty()) {
    return absl::InvalidArgumentError("a certificate and its key belong together; only one of them is given");
  }
  if (!settings.encrypted() && !settings.certificate.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("certificate ", settings.certificate, " is given, but no CA to know the server by"));
  }
  std::vector<std::string> unheard;
  if (warnings == nullptr) warnings = &unheard;
  if (const absl::Status status = CheckDialFiles(settings, absl::Now(), warnings); !status.ok()) return status;

  auto means = std::make_shared<Means>();
  if (settings.encrypted()) means->tls = TlsOf(settings);
  means->server_name = settings.server_name;
  if (!settings.token_file.empty()) {
    const auto text = ReadBounded("token file", settings.token_file);
    if (!text.ok()) return text.status();
    auto token = ParseOwnToken(*text, settings.token_file);
    if (!token.ok()) return token.status();
    means->token = std::make_shared<Token>(settings.token_file, *std::move(token));
  } else if (!settings.token.empty()) {
    auto token = ParseOwnToken(settings.token, "TANDEM_TOKEN");
    if (!token.ok()) return token.status();
    means->token = std::make_shared<Token>("", *std::move(token));
  }
  Dialer dialer;
  dialer.means_ = std::move(means);
  return dialer;
}

absl::Status Dialer::Check(const std::string& address) const {
  if (means_->token == nullptr || encrypted() || StaysOnThisMachine(address)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the token would be sent in plain text to ", address,
                                                 "; give the CA of its certificate (--ca, TANDEM_CA)"));
}

std::shared_ptr<grpc::Channel> Dialer::Dial(const std::string& address, const grpc::ChannelArguments& given) const {
  KeepCallbackThreads();
  grpc::ChannelArguments arguments = given;
  if (encrypted() && !means_->server_name.empty()) arguments.SetSslTargetNameOverride(means_->server_name);
  const auto credentials = encrypted() ? means_->tls : grpc::InsecureChannelCredentials();
  if (means_->token == nullptr || !Check(address).ok()) {
    return grpc::CreateCustomChannel(address, credentials, arguments);
  }
  std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> bearers;
  bearers.push_back(std::make_unique<TokenBearers>(means_->token));
  return grpc::experimental::CreateCustomChannelWithInterceptors(address, credentials, arguments, std::move(bearers));
}

bool Dialer::encrypted() const { return means_->tls != nullptr; }

}  // namespace tandem::security
