#include "scheduler/tokenizer/regex.h"

#include <glog/logging.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "absl/strings/str_cat.h"

namespace tandem::tokenizer {
namespace {

// One match reads at most this much of a pattern; beyond it the text is an attack on the pattern, not language.
constexpr uint32_t kMatchLimit = 100'000'000;
constexpr size_t kMaxPatternBytes = 64 * 1024;

std::string ErrorText(int code) {
  PCRE2_UCHAR buffer[256];
  if (pcre2_get_error_message(code, buffer, sizeof(buffer)) < 0) return absl::StrCat("PCRE2 error ", code);
  return reinterpret_cast<const char*>(buffer);
}

// What a running match needs, kept per thread: no lock, and no allocation per call.
struct Scratch {
  Scratch()
      : data(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(64 * 1024, 8 * 1024 * 1024, nullptr)) {
    CHECK(data != nullptr && context != nullptr);
    pcre2_set_match_limit(context, kMatchLimit);
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Scratch() {
    if (stack != nullptr) pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  pcre2_match_data* data;
  pcre2_match_context* context;
  pcre2_jit_stack* stack;
};

Scratch& ThreadScratch() {
  thread_local Scratch scratch;
  return scratch;
}

}  // namespace

struct Regex::Code {
  explicit Code(pcre2_code* c) : code(c) {}
  ~Code() { pcre2_code_free(code); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  pcre2_code* code;
};

absl::StatusOr<Regex> Regex::Compile(absl::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("regex: ", pattern.size(), " bytes, the limit is ", kMaxPatternBytes));
  }
  absl::StatusOr<std::string> translated = TranslateOnigPattern(pattern);
  if (!translated.ok()) return translated.status();
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated->data()), translated->size(),
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (code == nullptr) return absl::InvalidArgumentError(absl::StrCat("regex: ", ErrorText(error)));
  // Without JIT (a hardened kernel may forbid it) the interpreter answers the same, more slowly.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  return Regex(std::make_shared<const Code>(code));
}

absl::StatusOr<std::vector<Range>> Regex::FindAll(absl::string_view utf8) const {
  Scratch& scratch = ThreadScratch();
  const auto subject = reinterpret_cast<PCRE2_SPTR>(utf8.data());
  std::vector<Range> matches;
  size_t pos = 0;
  while (pos < utf8.size()) {
    const int rc = pcre2_match(code_->code, subject, utf8.size(), pos, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY,
                               scratch.data, scratch.context);
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0) {
      return absl::ResourceExhaustedError(absl::StrCat("the tokenizer's pattern gave up: ", ErrorText(rc)));
    }
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(scratch.data);
    matches.push_back({span[0], span[1]});
    pos = span[1];
  }
  return matches;
}

}  // namespace tandem::tokenizer
