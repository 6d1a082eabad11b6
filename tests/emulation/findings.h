// What the emulation found wrong with a kernel or with the use of the runtime: races, divergence, accesses out of
// bounds. A finding is printed when it is made, and kept until a test takes it.
//
// A process that ends with findings that nobody took ends with code 86, whatever it returned: a test need not ask.
#ifndef TANDEM_TESTS_EMULATION_FINDINGS_H_
#define TANDEM_TESTS_EMULATION_FINDINGS_H_

#include <string>
#include <vector>

namespace tandem::emulation {

// From any thread. Beyond a hundred, findings are counted and not kept.
void Report(const std::string& finding);

// All findings since the last call. Tests that plant an error take it, and look at it.
std::vector<std::string> TakeFindings();

}  // namespace tandem::emulation

#endif  // TANDEM_TESTS_EMULATION_FINDINGS_H_
