// vLLM's flags that are none of ours, a row each: whether a value follows, and what becomes of it here.
//
// Read from vLLM's engine arguments and server arguments of about version 0.18, under all their names; flags that were
// there earlier, as far as sources of about 0.11 and of 0.7 show them, since command lines live longer than versions.
#ifndef TANDEM_CLIENT_CTL_VLLM_FLAG_TABLE_H_
#define TANDEM_CLIENT_CTL_VLLM_FLAG_TABLE_H_

#include "absl/strings/string_view.h"

namespace tandem::client::ctl {

// What would change the answers is refused; what only tunes vLLM is taken and said to have no effect.
enum class Takes { kNothing, kMaybe, kValue, kValues };  // kNothing: true or false may follow all the same
enum class Treatment { kNoEffect, kRefused };
struct Foreign {
  const char* name;
  Takes takes;
  Treatment treatment;
  const char* why;
  const char* harmless = "";  // values, separated by |, with which a refused flag asks for what is so anyway
};

// Null: no flag of vLLM that is known. `name`: long, and without --no-.
const Foreign* FindForeign(absl::string_view name);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_VLLM_FLAG_TABLE_H_
