#include "base/security/secret_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tandem::security {
namespace {

constexpr size_t kMostBytes = 1 << 20;

}  // namespace

absl::StatusOr<std::string> ReadBounded(const std::string& what, const std::string& path) {
  const auto bad = [&](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat(what, " ", path, ": ", why));
  };
  // A pipe would be waited for; it is not regular.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return bad(std::strerror(errno));
  struct stat facts;
  std::string text;
  absl::Status status;
  if (fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode)) {
    status = bad("not a file");
  } else {
    char buffer[4096];
    ssize_t got = 0;
    while (text.size() <= kMostBytes && (got = read(fd, buffer, sizeof(buffer))) > 0) text.append(buffer, got);
    if (got < 0) status = bad(std::strerror(errno));
    if (text.size() > kMostBytes) status = bad("larger than 1 MiB");
  }
  close(fd);
  if (!status.ok()) return status;
  return text;
}

std::string LoosePermissions(const std::string& what, const std::string& path) {
  struct stat facts;
  if (stat(path.c_str(), &facts) != 0) return "";
  if ((facts.st_mode & (S_IWGRP | S_IRWXO)) == 0) return "";
  return absl::StrFormat("%s %s has the mode %04o: others than its owner may %s; chmod 600 (or 640) it", what, path,
                         facts.st_mode & 07777, (facts.st_mode & (S_IWGRP | S_IWOTH)) != 0 ? "change it" : "read it");
}

}  // namespace tandem::security
