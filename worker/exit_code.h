// How tandem-worker ends, for whoever starts it again.
#ifndef TANDEM_WORKER_EXIT_CODE_H_
#define TANDEM_WORKER_EXIT_CODE_H_

namespace tandem::worker {

enum ExitCode : int {
  kExitClean = 0,    // told to stop, and stopped
  kExitFailure = 1,  // start it again, with back-off
  kExitUsage = 2,    // as it was called it can never run: do not start it again
  kExitRefused = 3,  // the scheduler does not take it, for now: start it again with back-off, not at once
  kExitStuck = 4,    // an abort or a stop did not end the engine in time: start it again at once
  kExitDeviceLost =
      5,  // an error of the device that stays, or work on it that does not end: start it again, with back-off
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXIT_CODE_H_
