// What a model folder says about chat: its templates, and the texts of the special tokens that they write.
//
// In this order, the first that is there:
//
//   the configuration's file      models[].chat_template
//   chat_template.jinja           with additional_chat_templates/tool_use.jinja
//   chat_template.json            {"chat_template": ...}
//   tokenizer_config.json         "chat_template": a string, or a list of {"name", "template"}
//   model type gpt2               every turn ends with the end-of-text token, as DialoGPT was trained
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_TEMPLATE_FILES_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_TEMPLATE_FILES_H_

#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace tandem::chat {

struct TemplateFiles {
  std::optional<std::string> source;    // none: the model has no template
  std::optional<std::string> tool_use;  // used instead where a request has tools
  std::string origin;                   // the file that it is from, for messages
  // bos_token, eos_token, pad_token, ... as far as the files name them.
  std::map<std::string, std::string> special_tokens;
};

// `override_path`: of the configuration; empty: none. INVALID_ARGUMENT or NOT_FOUND name the file.
absl::StatusOr<TemplateFiles> ReadTemplateFiles(const std::string& folder, const std::string& override_path);

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_TEMPLATE_FILES_H_
