#include "client/gateway/server.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <list>
#include <thread>
#include <unordered_set>
#include <utility>  // before Asio 1.74, which forgets it
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "base/security/server_tls.h"
#include "client/gateway/connection.h"

namespace tandem::gateway {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr absl::Duration kLook = absl::Milliseconds(10);
constexpr absl::Duration kLastWords = absl::Seconds(2);  // for what was answered last to be taken, and clients to close
constexpr int kBacklog = 1024;                           // clients that connect at once while the loop is busy

}  // namespace

struct Server::Impl {
  // One thread and the connections that live on it. `connections` belongs to the thread.
  struct Loop {
    asio::io_context context{1};
    asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
    asio::steady_timer tick{context};
    std::unordered_set<Connection*> connections;
    ConnectionHost host;
    std::thread thread;
  };

  Impl(ServerOptions o, const security::ServerTls* t, Metrics* m, std::atomic<bool>* c, Handlers handlers)
      : options(std::move(o)),
        tls(t),
        metrics(m),
        closing(c),
        bodies(options.most_body_bytes),
        loops(MakeLoops(options.threads)) {
    for (const auto& each : loops) {
      Loop& loop = *each;
      loop.host.screen = handlers.screen;
      loop.host.handle = handlers.handle;
      loop.host.bodies = &bodies;
      loop.host.closing = closing;
      loop.host.refused = [this](int status) { metrics->OnRequest("refused", "", status, absl::ZeroDuration()); };
      loop.host.handshake_failed = [this](const HandshakeFailure& failure, const std::string& peer) {
        metrics->OnHandshakeFailed(failure.reason);
        handshakes.Say(failure, peer, absl::Now());
      };
      loop.host.closed = [this, &loop](Connection* connection) {
        loop.connections.erase(connection);
        --metrics->connections;
      };
    }
  }

  static std::vector<std::unique_ptr<Loop>> MakeLoops(int count) {
    std::vector<std::unique_ptr<Loop>> loops;
    for (int i = 0; i < count; ++i) loops.push_back(std::make_unique<Loop>());
    return loops;
  }

  void Accept() {
    Loop& loop = *loops[next_loop++ % loops.size()];
    acceptor.async_accept(loop.context, [this, &loop](error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted || !acceptor.is_open()) return;
      if (error) {  // out of descriptors: the next one may be closed in a moment
        pause.expires_after(std::chrono::milliseconds(50));
        return pause.async_wait([this](error_code stopped) {
          if (!stopped) Accept();
        });
      }
      Take(loop, std::move(socket));
      Accept();
    });
  }

  void Take(Loop& loop, tcp::socket socket) {
    const bool full = ++metrics->connections > options.most_connections;
    const auto spoken = tls == nullptr ? nullptr : tls->Context();
    auto connection = std::make_shared<Connection>(std::move(socket), spoken.get(), &loop.context, &loop.host);
    asio::post(loop.context, [&loop, full, connection = std::move(connection)] {
      loop.connections.insert(connection.get());
      if (!full) return connection->Start();
      connection->Start(ApiError{.status = 503,
                                 .message = "the gateway has as many connections as it may have; try again",
                                 .type = "server_error",
                                 .code = "connections_full",
                                 .retry_after = absl::Seconds(1)});
    });
  }

  void Tick(Loop& loop) {
    loop.tick.expires_after(std::chrono::seconds(1));
    loop.tick.async_wait([this, &loop](error_code error) {
      if (error) return;
      ForEach(loop, [now = Clock::now()](Connection& connection) { connection.OnTick(now); });
      Tick(loop);
    });
  }

  // On the loop's thread. `visit` may close the connection.
  template <typename Visit>
  static void ForEach(Loop& loop, Visit visit) {
    std::vector<std::shared_ptr<Connection>> all;
    for (Connection* connection : loop.connections) all.push_back(connection->shared_from_this());
    for (const auto& connection : all) visit(*connection);
  }

  // Runs `work` on every loop's thread and waits for it.
  template <typename Work>
  void OnEveryLoop(Work work) {
    for (const auto& loop : loops) {
      absl::Notification done;
      asio::post(loop->context, [&] {
        work(*loop);
        done.Notify();
      });
      done.WaitForNotification();
    }
  }

  struct Left {
    size_t busy = 0;
    size_t open = 0;
  };
  Left CloseIdle() {
    Left left;
    OnEveryLoop([&](Loop& loop) {
      ForEach(loop, [&left](Connection& connection) {
        if (connection.idle()) connection.Close();
        if (connection.busy()) ++left.busy;
      });
      left.open += loop.connections.size();
    });
    return left;
  }

  const ServerOptions options;
  const security::ServerTls* const tls;
  Metrics* const metrics;
  std::atomic<bool>* const closing;
  ByteBudget bodies;
  HandshakeLog handshakes;
  const std::vector<std::unique_ptr<Loop>> loops;  // the first one accepts
  size_t next_loop = 0;
  tcp::acceptor acceptor{Accepting()};
  asio::steady_timer pause{Accepting()};

  asio::io_context& Accepting() { return loops[0]->context; }
};

Server::Server(ServerOptions options, const security::ServerTls* tls, Metrics* metrics, std::atomic<bool>* closing,
               Handlers handlers)
    : impl_(std::make_unique<Impl>(std::move(options), tls, metrics, closing, std::move(handlers))) {}

Server::~Server() {
  Shutdown(absl::ZeroDuration(), [] { return true; });
}

absl::Status Server::Start() {
  error_code error;
  const std::string where = absl::StrCat(impl_->options.host, ":", impl_->options.port);
  const auto fail = [&](absl::string_view what) {
    return absl::UnavailableError(absl::StrCat("cannot listen at ", where, ": ", what, error.message()));
  };
  tcp::resolver resolver(impl_->Accepting());
  const auto found =
      resolver.resolve(impl_->options.host, absl::StrCat(impl_->options.port), tcp::resolver::passive, error);
  if (error || found.empty()) return fail("unknown host: ");
  const tcp::endpoint endpoint = found.begin()->endpoint();
  impl_->acceptor.open(endpoint.protocol(), error);
  if (error) return fail("");
  impl_->acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  impl_->acceptor.bind(endpoint, error);
  if (error) return fail("");
  impl_->acceptor.listen(kBacklog, error);
  if (error) return fail("");
  impl_->Accept();
  for (const auto& loop : impl_->loops) {
    impl_->Tick(*loop);
    loop->thread = std::thread([context = &loop->context] { context->run(); });
  }
  return absl::OkStatus();
}

int Server::port() const { return impl_->acceptor.local_endpoint().port(); }

void Server::AskLoops(std::function<void()> answer) {
  const auto left = std::make_shared<std::atomic<size_t>>(impl_->loops.size());
  for (const auto& loop : impl_->loops) {
    asio::post(loop->context, [left, answer] {
      if (--*left == 0) answer();
    });
  }
}

void Server::Shutdown(absl::Duration grace, const std::function<bool()>& hurried) {
  *impl_->closing = true;
  if (!impl_->loops[0]->thread.joinable()) return;  // never started, or shut down before
  const absl::Time end = absl::Now() + grace;
  absl::Notification deaf;
  asio::post(impl_->Accepting(), [&] {
    error_code ignored;
    impl_->acceptor.close(ignored);
    impl_->pause.cancel(ignored);
    deaf.Notify();
  });
  deaf.WaitForNotification();
  while (impl_->CloseIdle().busy > 0 && absl::Now() < end && !hurried()) absl::SleepFor(kLook);
  impl_->OnEveryLoop(
      [](Impl::Loop& loop) { Impl::ForEach(loop, [](Connection& connection) { connection.CutOff(); }); });
  const absl::Time said = absl::Now() + kLastWords;
  while (impl_->CloseIdle().open > 0 && absl::Now() < said) absl::SleepFor(kLook);
  impl_->OnEveryLoop([](Impl::Loop& loop) {
    Impl::ForEach(loop, [](Connection& connection) { connection.Close(); });
    loop.tick.cancel();
  });
  for (const auto& loop : impl_->loops) {
    loop->work.reset();
    loop->context.stop();
    loop->thread.join();
  }
}

}  // namespace tandem::gateway
