// What yaml-cpp does not do safely by itself.
#ifndef TANDEM_BASE_YAML_SECOND_DOCUMENT_H_
#define TANDEM_BASE_YAML_SECOND_DOCUMENT_H_

#include <string>

namespace tandem::yaml {

// Whether another document follows the first. YAML::LoadAll would say it too, but never returns from a stray comma:
// what it cannot consume it takes for one more document, for ever. Throws YAML::Exception on text that is not YAML.
bool HasSecondDocument(const std::string& text);

}  // namespace tandem::yaml

#endif  // TANDEM_BASE_YAML_SECOND_DOCUMENT_H_
