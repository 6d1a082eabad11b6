// A disk in memory under SQLite, which remembers every write in order and fails when told to. From what it remembers it
// gives the disk as it was when the process was killed after any byte, or when power went and only what was synced is
// certain.
#ifndef TANDEM_SCHEDULER_STORE_FAULTY_DISK_FOR_TEST_H_
#define TANDEM_SCHEDULER_STORE_FAULTY_DISK_FOR_TEST_H_

#include <sqlite3.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace tandem::scheduler::store {

class FaultyDisk {
 public:
  using Files = std::map<std::string, std::string>;
  enum class Kind { kWrite, kTruncate, kDelete, kSync };
  struct Step {
    Kind kind;
    std::string file;
    int64_t offset = 0;  // of a write; the new size of a truncation
    std::string bytes;
  };

  explicit FaultyDisk(Files files = {});
  ~FaultyDisk();
  FaultyDisk(const FaultyDisk&) = delete;

  // For sqlite3_open_v2.
  const char* vfs() const { return name_.c_str(); }

  const std::vector<Step>& steps() const { return steps_; }
  Files& files() { return files_; }
  // Asked before each step; what is not SQLITE_OK is what the disk answers, and the step is not taken.
  void set_fault(std::function<int(Kind)> fault) { fault_ = std::move(fault); }

  // The files after the first `count` steps, and `bytes` of the next if that is a write.
  static Files After(const std::vector<Step>& steps, size_t count, size_t bytes);
  // The same, where of what was not synced each step came to the disk or not, as `came` says.
  static Files AfterPowerLoss(const std::vector<Step>& steps, size_t count, const std::function<bool()>& came);

  // One step, as SQLite asks for it.
  int Take(Step step);

 private:
  static void Apply(const Step& step, size_t bytes, Files& files);

  Files files_;
  std::string name_;
  std::unique_ptr<sqlite3_vfs> vfs_;
  std::vector<Step> steps_;
  std::function<int(Kind)> fault_;
};

}  // namespace tandem::scheduler::store

#endif  // TANDEM_SCHEDULER_STORE_FAULTY_DISK_FOR_TEST_H_
