// What a benchmark prints on top, and how it measures what the machine can do at best.
#ifndef TANDEM_BENCH_MACHINE_H_
#define TANDEM_BENCH_MACHINE_H_

#include <cstdint>
#include <string>

namespace tandem::bench {

// Prints processor, cores, load of the last minute, and the command line.
void PrintMachine(int argc, char** argv);

// Seconds on a clock that never falls.
double Now();

// Bytes per second that this thread reads, best of `repeats` passes over 1 GiB with wide loads and no arithmetic to
// wait for.
double ReadBandwidth(int repeats = 5);

// Keeps this process on one core. What several ranks measure together they measure on cores of their own.
void PinToCore(int core);

}  // namespace tandem::bench

#endif  // TANDEM_BENCH_MACHINE_H_
