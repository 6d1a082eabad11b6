// One prepared statement of SQLite: bound by position, stepped, read by column. An error is kept and comes out of the
// end, so that a row is bound or read without a test on every line. Part of sqlite_store; nobody else sees SQLite.
#ifndef TANDEM_SCHEDULER_STORE_SQLITE_STATEMENT_H_
#define TANDEM_SCHEDULER_STORE_SQLITE_STATEMENT_H_

#include <sqlite3.h>

#include <concepts>
#include <cstdint>
#include <string>

namespace tandem::scheduler::store {

class Statement {
 public:
  Statement(sqlite3* db, const char* sql) { code_ = sqlite3_prepare_v2(db, sql, -1, &statement_, nullptr); }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  // The next parameter. Text must live until the statement was stepped.
  void Bind(const std::string& text) {
    Keep(sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()), SQLITE_STATIC));
  }
  void Bind(std::integral auto number) {
    Keep(sqlite3_bind_int64(statement_, ++bound_, static_cast<sqlite3_int64>(number)));
  }

  // True: there is a row to read. False: there is none, or something failed; see code().
  bool Step() {
    if (code_ != SQLITE_OK) return false;
    const int result = sqlite3_step(statement_);
    column_ = 0;
    if (result == SQLITE_ROW) return true;
    Keep(result == SQLITE_DONE ? SQLITE_OK : result);
    return false;
  }
  // Without rows, to be bound again.
  int Run() {
    while (Step()) {
    }
    if (statement_ != nullptr) sqlite3_reset(statement_);
    bound_ = 0;
    return code_;
  }

  // The next column.
  void Read(std::string& text) {
    const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column_));
    text.assign(data == nullptr ? "" : data, static_cast<size_t>(sqlite3_column_bytes(statement_, column_)));
    ++column_;
  }
  template <std::integral T>
  void Read(T& number) {
    number = static_cast<T>(sqlite3_column_int64(statement_, column_++));
  }

  int code() const { return code_; }  // SQLITE_OK, or the first failure

 private:
  void Keep(int code) {
    if (code_ == SQLITE_OK) code_ = code;
  }

  sqlite3_stmt* statement_ = nullptr;
  int code_ = SQLITE_OK;
  int bound_ = 0, column_ = 0;
};

}  // namespace tandem::scheduler::store

#endif  // TANDEM_SCHEDULER_STORE_SQLITE_STATEMENT_H_
