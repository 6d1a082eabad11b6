#include "tests/emulation/device_api.h"

namespace tandem::emulation {

void CompleteShuffle(void* const* contributions, uint32_t mask) {
  for (int lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    Exchange& mine = *static_cast<Exchange*>(contributions[lane]);
    // A lane outside of the mask gives nothing defined; its own value would look too right.
    const bool there = mask >> mine.source & 1;
    mine.result = there ? static_cast<const Exchange*>(contributions[mine.source])->value : ~uint64_t{0};
  }
}

void CompleteBallot(void* const* contributions, uint32_t mask) {
  uint32_t votes = 0;
  for (int lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) != 0 && static_cast<const Exchange*>(contributions[lane])->value != 0) votes |= 1u << lane;
  }
  for (int lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1) static_cast<Exchange*>(contributions[lane])->result = votes;
  }
}

void CompleteWarpBarrier(void* const*, uint32_t mask) {
  if (mask == 0xffffffffu) current_block->shared().PassWarpBarrier(current_thread->warp);
}

}  // namespace tandem::emulation
