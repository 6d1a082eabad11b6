// The other end of Notifier: hears what the processes that this one started have to say. One thread. The socket has an
// abstract name of the kernel's choosing, so that nothing is left behind; who sent a message is the kernel's word.
#ifndef TANDEM_BASE_NOTIFY_NOTIFY_SOCKET_H_
#define TANDEM_BASE_NOTIFY_NOTIFY_SOCKET_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace tandem {

class NotifySocket {
 public:
  struct Message {
    pid_t from;
    std::vector<std::string> lines;  // "READY=1"
  };

  // Dies where the system gives no socket: as for any descriptor that a supervisor cannot do without.
  NotifySocket();
  ~NotifySocket();
  NotifySocket(const NotifySocket&) = delete;
  NotifySocket& operator=(const NotifySocket&) = delete;

  // For NOTIFY_SOCKET of a child.
  const std::string& name() const { return name_; }
  int fd() const { return fd_; }  // readable when there is a message
  // The next one; nothing: none waits.
  std::optional<Message> Take();

 private:
  int fd_;
  std::string name_;
};

}  // namespace tandem

#endif  // TANDEM_BASE_NOTIFY_NOTIFY_SOCKET_H_
