#include <zlib.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "base/trace/trace.h"

namespace tandem {

// zlib hands a file that is not packed through as it is.
absl::StatusOr<std::vector<TraceRequest>> ReadTraceFile(const std::string& path) {
  const std::unique_ptr<gzFile_s, decltype(&gzclose)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (file == nullptr) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  std::string text;
  std::vector<char> piece(1 << 20);
  while (true) {
    const int got = gzread(file.get(), piece.data(), static_cast<unsigned>(piece.size()));
    if (got < 0) {
      int code = Z_OK;
      const char* why = gzerror(file.get(), &code);
      if (code == Z_ERRNO) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
      return absl::InvalidArgumentError(absl::StrCat(path, ": is not whole: ", why));
    }
    if (got == 0) break;
    if (text.size() + static_cast<size_t>(got) > kMostTraceBytes) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": more than ", kMostTraceBytes >> 20, " MiB unpacked"));
    }
    text.append(piece.data(), static_cast<size_t>(got));
  }
  return ParseTrace(text, path);
}

}  // namespace tandem
