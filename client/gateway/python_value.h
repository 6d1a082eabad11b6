// Values as Python writes them, made JSON: some models write their calls of tools in that language. Literals alone are
// read, nothing is computed: strings in one line, whole and real numbers, True, False, None, lists, tuples and
// dictionaries whose keys are strings.
#ifndef TANDEM_CLIENT_GATEWAY_PYTHON_VALUE_H_
#define TANDEM_CLIENT_GATEWAY_PYTHON_VALUE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace tandem::gateway {

// Takes a value off the front of `text`, and appends it to `out` as JSON. False: there is none, or it nests deeper than
// 32 levels; what was appended and taken by then is of no use.
bool ConsumePythonValue(absl::string_view* text, std::string* out);

// Takes "(a=1, b='x')" off the front, and appends {"a":1,"b":"x"}. False as above.
bool ConsumePythonArguments(absl::string_view* text, std::string* out);

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_PYTHON_VALUE_H_
