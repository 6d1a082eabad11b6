// The gateway's end of a connection: TCP, or TLS over it. Reads and writes are the same on both.
//
// Belongs to one loop. One read and one write may be under way; whoever waits for them keeps the socket alive.
#ifndef TANDEM_CLIENT_GATEWAY_CLIENT_SOCKET_H_
#define TANDEM_CLIENT_GATEWAY_CLIENT_SOCKET_H_

#include <openssl/ssl.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <memory>
#include <optional>
#include <string>
#include <utility>  // before Asio 1.74, which forgets it

namespace tandem::gateway {

class ClientSocket {
 public:
  // `tls`: what the server speaks; null: plain text.
  ClientSocket(boost::asio::ip::tcp::socket socket, SSL_CTX* tls) : tcp_(std::move(socket)) {
    if (tls == nullptr) return;
    SSL_CTX_up_ref(tls);
    boost::asio::ssl::context shared(tls);  // which takes one reference, as the stream takes another
    tls_.emplace(tcp_, shared);
    encrypted_ = true;
    boost::system::error_code gone;
    const auto peer = tcp_.remote_endpoint(gone);
    peer_ = gone ? "a client" : peer.address().to_string();
  }

  bool encrypted() const { return encrypted_; }

  // From then on, or after a handshake that failed: what is sent and received is plain text.
  void LeaveTls() { encrypted_ = false; }

  template <typename Done>  // void(error_code)
  void Handshake(Done done) {
    tls_->async_handshake(boost::asio::ssl::stream_base::server, std::move(done));
  }
  template <typename Done>  // void(error_code, size_t)
  void ReadSome(boost::asio::mutable_buffer into, Done done) {
    if (encrypted_) return tls_->async_read_some(into, std::move(done));
    tcp_.async_read_some(into, std::move(done));
  }
  template <typename Done>  // void(error_code, size_t)
  void WriteAll(boost::asio::const_buffer all, Done done) {
    if (encrypted_) return boost::asio::async_write(*tls_, all, std::move(done));
    boost::asio::async_write(tcp_, all, std::move(done));
  }

  // Tells the other side that nothing more comes. What it still sends is read as it comes, without TLS. `done` may be
  // called before this returns. REQUIRES: nothing is being written.
  template <typename Done>  // void()
  void EndSending(Done done) {
    if (!encrypted_) {
      ShutDown();
      return done();
    }
    tls_->async_shutdown([this, done = std::move(done)](boost::system::error_code) {
      LeaveTls();
      ShutDown();
      done();
    });
  }

  void SetNoDelay() {
    boost::system::error_code ignored;
    tcp_.set_option(boost::asio::ip::tcp::no_delay(true), ignored);
  }
  void Close() {
    boost::system::error_code ignored;
    tcp_.close(ignored);
  }
  // Of a client over TLS, for the log.
  const std::string& peer() const { return peer_; }
  // After a handshake that failed: whether it did so over the client's certificate.
  bool CertificateRefused() { return SSL_get_verify_result(tls_->native_handle()) != X509_V_OK; }

 private:
  void ShutDown() {
    boost::system::error_code ignored;
    tcp_.shutdown(boost::asio::ip::tcp::socket::shutdown_send, ignored);
  }

  boost::asio::ip::tcp::socket tcp_;
  std::optional<boost::asio::ssl::stream<boost::asio::ip::tcp::socket&>> tls_;
  bool encrypted_ = false;
  std::string peer_;
};

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_CLIENT_SOCKET_H_
