// One question to a program of this build: started, heard to its end, and not waited for longer than a time.
#ifndef TANDEM_CLIENT_CTL_QUESTION_H_
#define TANDEM_CLIENT_CTL_QUESTION_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace tandem::client::ctl {

// Where this program lies, and the others of its build beside it.
std::string OwnFolder();

struct Patience {
  absl::Duration most;                       // then the program is killed
  absl::Duration unsaid = absl::Seconds(1);  // then `slow` is called, once
  std::function<void()> slow = [] {};
};

// What it wrote to both outputs, however it ended. DEADLINE_EXCEEDED: it has not ended in time; it was killed, and is
// not waited for either, since who hangs in a driver does not die before the driver lets go. UNAVAILABLE: it does not
// start.
absl::StatusOr<std::string> Ask(const std::vector<std::string>& argv, const Patience& patience);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_QUESTION_H_
