// Planted bugs: five things wrong on purpose, each in one place, each only in a build of the simulator that has to find
// it (tests/sim/CMakeLists.txt). A simulator that finds nothing may be blind; these show that it sees.
//
// In every other build kPlanted is kNone, and nothing of this is compiled in.
#ifndef TANDEM_BASE_PLANT_H_
#define TANDEM_BASE_PLANT_H_

namespace tandem {

enum class Plant {
  kNone,
  kLeakPromise,     // the booking of a request that was told its end is not given back
  kSkipEpochCheck,  // what an earlier attempt of a request says counts for the present one
  kDeliverTwice,    // a token that comes again after a break is taken for the next one
  kForgetWaiter,    // room that was given back is offered to nobody
  kFreeEarly,       // a shared KV block is free as soon as the first of its holders lets go
};

#ifdef TANDEM_PLANT
constexpr Plant kPlanted = Plant::TANDEM_PLANT;
#else
constexpr Plant kPlanted = Plant::kNone;
#endif

}  // namespace tandem

#endif  // TANDEM_BASE_PLANT_H_
