#include "client/ctl/interrupt.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>

namespace tandem::client::ctl {
namespace {

constexpr char kSignal = 's', kEnd = 'e';

// A signal handler may touch little else than a descriptor.
std::atomic<int> signal_pipe = -1;
std::atomic<int> times_left = 0;

void Handle(int) {
  const int saved = errno;
  if (--times_left <= 0) {
    for (const int number : {SIGINT, SIGTERM}) signal(number, SIG_DFL);
  }
  const ssize_t ignored = write(signal_pipe.load(), &kSignal, 1);
  (void)ignored;
  errno = saved;
}

void Install(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int number : {SIGINT, SIGTERM}) PCHECK(sigaction(number, &action, nullptr) == 0);
}

}  // namespace

OnInterrupt::OnInterrupt(std::function<void()> function, int times) : function_(std::move(function)) {
  times_left = times;
  PCHECK(pipe2(pipe_, O_CLOEXEC) == 0);
  signal_pipe = pipe_[1];
  thread_ = std::thread([this] {
    char byte = 0;
    while (true) {
      const ssize_t got = read(pipe_[0], &byte, 1);
      if (got < 0 && errno == EINTR) continue;
      if (got != 1 || byte == kEnd) return;
      happened_ = true;
      function_();
    }
  });
  Install(Handle);
}

OnInterrupt::~OnInterrupt() {
  Install(SIG_DFL);
  PCHECK(write(pipe_[1], &kEnd, 1) == 1);
  thread_.join();
  close(pipe_[0]);
  close(pipe_[1]);
}

}  // namespace tandem::client::ctl
