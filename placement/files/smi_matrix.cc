#include "placement/files/smi_matrix.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "placement/files/smi_text.h"

namespace tandem::placement {
namespace {

constexpr size_t kMostColumns = 512;  // 64 devices and their cards, with room
constexpr char kCellsKnown[] = "expected X, NV<links>, PIX, PXB, PHB, NODE or SYS";

struct Line {
  int number = 0;  // from 1
  std::string text;
  std::vector<SmiWord> words;
};

struct Header {
  int line = 0;
  std::vector<std::string> names;  // GPUs first, then network cards
  int gpus = 0;
  bool cpu = false, numa = false;
  size_t numa_at = 0;  // where that title starts
  bool wrapped = false;
};

struct Row {
  int line = 0;
  std::vector<Link> cells;
  std::string cpu, numa;
};

class Reader {
 public:
  Reader(absl::string_view file, const ReadOptions& options) : file_(file), options_(options) {}

  absl::StatusOr<Host> Read(absl::string_view text) {
    if (text.size() > kMostSmiBytes) return Bad(0, "", absl::StrCat(text.size(), " bytes; a matrix has at most 1 MiB"));
    absl::StatusOr<const Chip*> chip = NamedChip(options_.gpu);
    if (!chip.ok()) return chip.status();
    Split(text);
    if (absl::Status status = ReadHeader(); !status.ok()) return status;
    if (absl::Status status = ReadRows(); !status.ok()) return status;
    if (absl::Status status = CheckRows(*chip); !status.ok()) return status;
    return Finish(ToHost(*chip != nullptr ? *chip : &GenericChip()), options_, file_);
  }

 private:
  absl::Status Bad(int line, absl::string_view where, absl::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat(file_, line > 0 ? absl::StrCat(":", line) : "", ": ", where, where.empty() ? "" : ": ", what));
  }

  void Split(absl::string_view text) {
    absl::ConsumePrefix(&text, "\xef\xbb\xbf");
    int number = 0;
    for (const absl::string_view line : absl::StrSplit(text, '\n')) {
      Line read{++number, WithoutEscapes(line), {}};
      read.words = SmiWords(read.text);
      lines_.push_back(std::move(read));
    }
  }

  // A line of titles: it starts with a GPU's name and no cell follows.
  static bool IsHeader(const Line& line) {
    if (line.words.empty() || SplitGpuNames(line.words[0].text).empty()) return false;
    return line.words.size() == 1 || (!StartsLikeCell(line.words[1].text) && !IsCpuList(line.words[1].text));
  }

  static bool StartsLikeCell(absl::string_view word) { return !SplitSmiLabels(word).labels.empty(); }

  static bool IsAffinityTitle(absl::string_view word) {
    return word == "CPU" || word == "NUMA" || word == "Affinity" || word == "GPU" || word == "ID";
  }

  absl::Status ReadHeader() {
    while (next_ < lines_.size() && !IsHeader(lines_[next_])) {
      const Line& line = lines_[next_++];
      // Without titles nobody knows what the columns are.
      if (line.words.size() > 1 && ParseGpuName(line.words[0].text) && StartsLikeCell(line.words[1].text)) {
        return Bad(line.number, absl::StrCat("row ", line.words[0].text),
                   "no header line stands above it; give the matrix with its line of column names");
      }
    }
    if (next_ == lines_.size()) {
      return Bad(1, "", "no matrix in it; expected the output of nvidia-smi topo -m, a line of GPU0 GPU1 ... first");
    }
    header_.line = lines_[next_].number;
    absl::Status status = AddTitles(lines_[next_++]);
    // The rest of a wrapped header: titles that are not there yet.
    while (status.ok() && next_ < lines_.size() && ContinuesHeader(lines_[next_])) {
      header_.wrapped = true;
      status = AddTitles(lines_[next_++]);
    }
    if (!status.ok()) return status;
    if (header_.gpus > kMostDevicesOfHost) {
      return Bad(header_.line, "header", absl::StrCat(header_.gpus, " GPUs; at most ", kMostDevicesOfHost));
    }
    return absl::OkStatus();
  }

  bool ContinuesHeader(const Line& line) const {
    if (line.words.empty()) return false;
    const std::string& first = line.words[0].text;
    if (line.words.size() > 1 && (StartsLikeCell(line.words[1].text) || IsCpuList(line.words[1].text))) return false;
    if (IsAffinityTitle(first)) return true;
    return (ParseGpuName(first) || IsNicName(first)) && !absl::StrContains(first, ':') && !IsColumn(first) &&
           !header_.cpu && !header_.numa;
  }

  bool IsColumn(absl::string_view name) const {
    return std::find(header_.names.begin(), header_.names.end(), name) != header_.names.end();
  }

  absl::Status AddTitles(const Line& line) {
    for (size_t i = 0; i < line.words.size(); ++i) {
      std::string word = line.words[i].text;
      const bool last_is_affinity = i + 1 < line.words.size() && line.words[i + 1].text == "Affinity";
      // "mlx5_1CPU Affinity": the name ends where the title starts.
      bool glued = false;
      if (last_is_affinity && word.size() > 3 && absl::EndsWith(word, "CPU")) {
        glued = true;
        word.resize(word.size() - 3);
      }
      if (!glued && (IsAffinityTitle(word) || header_.cpu || header_.numa)) {
        if (word == "CPU") header_.cpu = true;
        if (word == "NUMA" && last_is_affinity) {
          header_.numa = true;
          header_.numa_at = line.words[i].column;
        }
        continue;
      }
      std::vector<std::string> names = SplitGpuNames(word);
      if (names.empty()) {
        if (!IsNicName(word)) {
          return Bad(line.number, absl::StrCat("header, column ", Quoted(word)),
                     "expected a GPU (GPU0), a network card (NIC0, mlx5_0) or CPU Affinity");
        }
        names.push_back(word);
      }
      for (const std::string& name : names) {
        if (absl::Status status = AddColumn(line.number, name); !status.ok()) return status;
      }
      if (glued) header_.cpu = true;
    }
    return absl::OkStatus();
  }

  absl::Status AddColumn(int line, const std::string& name) {
    const std::string where = absl::StrCat("header, column ", Quoted(name));
    if (IsColumn(name)) return Bad(line, where, "it stands there twice");
    if (header_.names.size() >= kMostColumns) return Bad(line, where, absl::StrCat("more than ", kMostColumns));
    if (const std::optional<int> index = ParseGpuName(name); index.has_value()) {
      if (header_.gpus != static_cast<int>(header_.names.size()) || *index != header_.gpus) {
        return Bad(line, where, absl::StrCat("expected GPU", header_.gpus, " here; a column is missing or moved"));
      }
      ++header_.gpus;
    }
    header_.names.push_back(name);
    return absl::OkStatus();
  }

  absl::Status ReadRows() {
    while (next_ < lines_.size()) {
      const Line& line = lines_[next_];
      if (line.words.empty()) {
        ++next_;
        continue;
      }
      const std::string& first = line.words[0].text;
      const bool is_row = line.words.size() > 1 && (ParseGpuName(first) || IsColumn(first));
      if (absl::StartsWith(first, "Legend") || absl::StartsWith(first, "```")) break;
      if (!is_row) {
        if (GpuRowsDone()) {
          const bool legend = line.words.size() > 1 && line.words[1].text == "=";
          if (legend || !StartsLikeCell(first)) break;  // text below the table
          return Bad(line.number, "", absl::StrCat(Quoted(first), " belongs to no row; do not wrap lines"));
        }
        return Bad(line.number, "",
                   absl::StrCat(Quoted(line.text), " is neither a row nor the rest of one; rows start with a name"));
      }
      if (absl::Status status = ReadRow(); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  bool GpuRowsDone() const {
    return std::all_of(header_.names.begin(), header_.names.begin() + header_.gpus,
                       [&](const std::string& name) { return rows_.count(name) > 0; });
  }

  // The line at next_, and those that its cells go on in.
  absl::Status ReadRow() {
    const Line& line = lines_[next_++];
    const std::string& name = line.words[0].text;
    const std::string where = absl::StrCat("row ", name);
    if (!IsColumn(name)) {
      return Bad(
          line.number, where,
          absl::StrCat("the header of line ", header_.line, " has no such column, only ", header_.gpus, " GPUs"));
    }
    if (rows_.count(name) > 0)
      return Bad(line.number, where, absl::StrCat("line ", rows_[name].line, " has it already"));

    Row row{line.number, {}, "", ""};
    std::string rest;
    size_t rest_at = 0;
    absl::Status status = TakeCells(line, 1, where, row, rest, rest_at);
    while (status.ok() && rest.empty() && next_ < lines_.size() && ContinuesRow(lines_[next_], row)) {
      const bool cells_missing = row.cells.size() < header_.names.size();
      const Line& more = lines_[next_++];
      if (cells_missing) {
        status = TakeCells(more, 0, where, row, rest, rest_at);
      } else {
        rest = more.text;
      }
      rest_at = std::string::npos;  // columns of a wrapped line mean nothing
    }
    if (!status.ok()) return status;
    if (row.cells.size() != header_.names.size()) {
      return Bad(row.line, where,
                 absl::StrCat("it has ", row.cells.size(), " cells, the header of line ", header_.line, " has ",
                              header_.names.size(), " columns; a cell is missing"));
    }
    if (ParseGpuName(name)) {
      if (status = TakeAffinity(rest, rest_at, where, row); !status.ok()) return status;
    }
    rows_.emplace(name, std::move(row));
    return absl::OkStatus();
  }

  bool ContinuesRow(const Line& line, const Row& row) const {
    if (line.words.empty() || IsColumn(line.words[0].text)) return false;
    if (row.cells.size() < header_.names.size()) return StartsLikeCell(line.words[0].text);
    return (header_.cpu || header_.numa) && absl::ascii_isdigit(line.words[0].text[0]) && IsCpuList(line.words[0].text);
  }

  absl::Status TakeCells(const Line& line, size_t word, const std::string& where, Row& row, std::string& rest,
                         size_t& rest_at) {
    const size_t columns = header_.names.size();
    for (; word < line.words.size() && row.cells.size() < columns; ++word) {
      const SmiWord& at = line.words[word];
      const std::string cell = absl::StrCat(where, ", column ", header_.names[row.cells.size()]);
      const SmiLabels split = SplitSmiLabels(at.text);
      if (split.labels.empty() && IsCpuList(at.text)) break;  // the cells end early
      const bool last = row.cells.size() + split.labels.size() == columns;
      const bool affinity_glued =
          last && !split.labels.empty() && split.labels.back().kind != PathKind::kNvLink && IsCpuList(split.rest);
      if (split.labels.empty() || (!split.rest.empty() && !affinity_glued)) {
        return Bad(line.number, cell, absl::StrCat("unknown cell ", Quoted(at.text), "; ", kCellsKnown));
      }
      if (row.cells.size() + split.labels.size() > columns) return TooMany(line.number, where);
      row.cells.insert(row.cells.end(), split.labels.begin(), split.labels.end());
      if (affinity_glued) {
        rest = line.text.substr(at.column + at.text.size() - split.rest.size());
        rest_at = std::string::npos;
        return absl::OkStatus();
      }
    }
    if (word >= line.words.size()) return absl::OkStatus();
    if (row.cells.size() == columns && ParseSmiLabel(line.words[word].text)) return TooMany(line.number, where);
    rest_at = word == 0 ? 0 : line.words[word - 1].column + line.words[word - 1].text.size();
    rest = line.text.substr(rest_at);
    return absl::OkStatus();
  }

  absl::Status TooMany(int line, const std::string& where) const {
    return Bad(line, where,
               absl::StrCat("it has more cells than the ", header_.names.size(), " columns of the header in line ",
                            header_.line));
  }

  // CPU affinity, then NUMA, then the GPU's own memory node, which is not where the GPU is. Any of them may be blank:
  // tabs tell which, or else the place under its title.
  absl::Status TakeAffinity(const std::string& rest, size_t rest_at, const std::string& where, Row& row) const {
    const std::string text = absl::StrReplaceAll(rest, {{", ", ","}});
    std::vector<std::string> fields;
    if (absl::StrContains(text, '\t')) {
      absl::string_view tabbed = text;
      while (absl::ConsumePrefix(&tabbed, " ")) {
      }
      absl::ConsumePrefix(&tabbed, "\t");
      for (const absl::string_view field : absl::StrSplit(tabbed, '\t')) {
        fields.emplace_back(absl::StripAsciiWhitespace(field));
      }
      if (!header_.cpu) fields.insert(fields.begin(), "");
    } else {
      const std::vector<SmiWord> words = SmiWords(text);
      const bool numa_first = !words.empty() && rest_at != std::string::npos && !header_.wrapped && header_.numa &&
                              rest_at + words[0].column >= header_.numa_at && text.size() == rest.size();
      if (!header_.cpu || numa_first) fields.push_back("");
      for (const SmiWord& word : words) fields.push_back(word.text);
    }
    fields.resize(std::max<size_t>(fields.size(), 2));
    if (!fields[0].empty() && !IsCpuList(fields[0])) {
      return Bad(row.line, where,
                 absl::StrCat("CPU affinity ", Quoted(fields[0]), "; expected a list such as 0-31,64-95"));
    }
    row.cpu = fields[0];
    if (!header_.numa) return absl::OkStatus();
    if (!ParseNuma(fields[1]).has_value()) {
      return Bad(row.line, where,
                 absl::StrCat("NUMA affinity ", Quoted(fields[1]), "; expected a number, a range or N/A"));
    }
    row.numa = fields[1];
    return absl::OkStatus();
  }

  absl::Status CheckRows(const Chip* chip) const {
    bool any_nic = false;
    for (size_t i = header_.gpus; i < header_.names.size(); ++i) any_nic |= rows_.count(header_.names[i]) > 0;
    for (size_t i = 0; i < header_.names.size(); ++i) {
      const bool needed = static_cast<int>(i) < header_.gpus || any_nic;
      if (needed && rows_.count(header_.names[i]) == 0) {
        return Bad(header_.line, absl::StrCat("row ", header_.names[i]), "it is missing; the header has that column");
      }
    }
    for (size_t a = 0; a < header_.names.size(); ++a) {
      const auto row = rows_.find(header_.names[a]);
      if (row == rows_.end()) continue;
      for (size_t b = 0; b < header_.names.size(); ++b) {
        if (absl::Status status = CheckCell(row->second, a, b, chip); !status.ok()) return status;
      }
    }
    return absl::OkStatus();
  }

  absl::Status CheckCell(const Row& row, size_t a, size_t b, const Chip* chip) const {
    const Link& link = row.cells[b];
    const std::string where = absl::StrCat("row ", header_.names[a], ", column ", header_.names[b]);
    if ((link.kind == PathKind::kSelf) != (a == b)) {
      return Bad(row.line, where,
                 absl::StrCat(Label(link), a == b ? " on the diagonal; X belongs there"
                                                  : " beside the diagonal; only a device's own cell is X"));
    }
    if (const auto back = rows_.find(header_.names[b]); back != rows_.end()) {
      const Link& other = back->second.cells[a];
      if (link.kind != other.kind || link.nvlinks != other.nvlinks) {
        return Bad(row.line, where,
                   absl::StrCat(Label(link), ", but line ", back->second.line, " says ", Label(other),
                                " the other way; a link is the same both ways"));
      }
    }
    if (link.kind != PathKind::kNvLink) return absl::OkStatus();
    if (chip == nullptr) {
      return Bad(row.line, where,
                 absl::StrCat(Label(link),
                              " is as fast as the chip's links, and the file names no chip; "
                              "give it with --gpu (",
                              KnownChips(), ")"));
    }
    if (chip->nvlinks == 0) {
      return Bad(row.line, where,
                 absl::StrCat(Label(link), ", but ", chip->name, " has no NVLink; name the right chip with --gpu"));
    }
    if (link.nvlinks < 1 || link.nvlinks > chip->nvlinks) {
      return Bad(row.line, where,
                 absl::StrCat(Label(link), ", but ", chip->name, " has ", chip->nvlinks,
                              " links; name the right chip with --gpu or mend the cell"));
    }
    return absl::OkStatus();
  }

  Host ToHost(const Chip* chip) const {
    Host host;
    std::vector<std::string> affinities;  // distinct, in order of appearance
    bool numa_known = false, affinity_known = true;
    for (int i = 0; i < header_.gpus; ++i) {
      const Row& row = rows_.at(header_.names[i]);
      Device device;
      device.chip = chip;
      device.memory_total = chip->memory_bytes;
      device.numa = *ParseNuma(row.numa);
      numa_known |= device.numa >= 0;
      affinity_known &= !row.cpu.empty() && row.cpu != "N/A";
      if (std::find(affinities.begin(), affinities.end(), row.cpu) == affinities.end()) affinities.push_back(row.cpu);
      host.devices.push_back(std::move(device));
      host.links.insert(host.links.end(), row.cells.begin(), row.cells.begin() + header_.gpus);
    }
    // Old drivers print no NUMA column, but tell the sockets apart by their cores.
    if (!numa_known && affinity_known && affinities.size() > 1) {
      for (int i = 0; i < header_.gpus; ++i) {
        const auto found = std::find(affinities.begin(), affinities.end(), rows_.at(header_.names[i]).cpu);
        host.devices[i].numa = static_cast<int>(found - affinities.begin());
      }
    }
    return host;
  }

  const std::string file_;
  const ReadOptions& options_;
  std::vector<Line> lines_;
  size_t next_ = 0;  // line to read
  Header header_;
  std::map<std::string, Row> rows_;
};

}  // namespace

absl::StatusOr<Host> ParseSmiMatrix(absl::string_view text, absl::string_view file, const ReadOptions& options) {
  return Reader(file, options).Read(text);
}

}  // namespace tandem::placement
