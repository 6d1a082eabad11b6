// The threads that gRPC runs the reactions of clients on.
#ifndef TANDEM_BASE_SECURITY_CALLBACK_THREADS_H_
#define TANDEM_BASE_SECURITY_CALLBACK_THREADS_H_

namespace tandem::security {

// Keeps them for as long as the process lives. gRPC ends them with the last channel that uses them, by waiting for
// them; where that channel goes with a call's last reaction, as it does when a client is dropped while its calls end,
// one of them waits for itself, frees what it runs on and aborts the process ("ref_counted.h: assertion failed: prior >
// 0", seen with gRPC 1.51). Any thread, any number of times.
void KeepCallbackThreads();

}  // namespace tandem::security

#endif  // TANDEM_BASE_SECURITY_CALLBACK_THREADS_H_
