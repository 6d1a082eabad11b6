// Makes a prompt of a conversation with a model's own chat template, as transformers' apply_chat_template does.
//
// Messages, tools and variables of a request are given text (text.h): in the prompt they stay apart from what the
// template wrote. Roles are the exception, since templates build control tokens of them ("<|" + role + "|>"); the
// caller lets pass only words as roles.
//
// Immutable; any thread may render. A rendering is bounded by Limits, whatever template and conversation.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_CHAT_TEMPLATE_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_CHAT_TEMPLATE_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/chat_template/template.h"
#include "scheduler/chat_template/template_files.h"

namespace tandem::chat {

// All texts are valid UTF-8.
struct Message {
  std::string role;                // letters, digits, '_' and '-'
  std::string content;             // used where there are no parts
  std::vector<std::string> parts;  // texts
  std::string name;                // empty: none
  std::string tool_calls_json;     // an array; empty: none
  std::string tool_call_id;        // empty: none
};

struct Conversation {
  std::vector<Message> messages;
  bool add_generation_prompt = true;
  bool continue_final_message = false;
  std::string template_kwargs_json;  // an object; empty: none
  std::string tools_json;            // an array; empty: none
};

class ChatTemplate {
 public:
  // Null where the files have no template. INVALID_ARGUMENT names the file, the line and what cannot be rendered: the
  // template is parsed, and tried with a short conversation.
  static absl::StatusOr<std::shared_ptr<const ChatTemplate>> Make(const TemplateFiles& files);

  // Errors as Template::Render's, and INVALID_ARGUMENT for JSON that is none.
  absl::StatusOr<Text> Render(const Conversation& conversation, const Limits& limits, absl::Time now) const;

 private:
  ChatTemplate(Template main, std::optional<Template> tool_use, std::map<std::string, std::string> special_tokens);

  // How the text of a message reaches the template.
  enum class Content { kText, kParts };
  absl::Status Try();
  absl::StatusOr<Value> MakeMessage(const Message& message, bool is_continued) const;

  const Template main_;
  const std::optional<Template> tool_use_;
  const std::map<std::string, std::string> special_tokens_;
  bool takes_text_ = true;    // "content" as a string
  bool takes_parts_ = false;  // "content" as a list of {"type": "text", "text": ...}
};

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_CHAT_TEMPLATE_H_
