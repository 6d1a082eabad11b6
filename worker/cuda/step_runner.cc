#include "worker/cuda/step_runner.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/cuda/check.h"
#include "worker/cuda/graph_sizes.h"

namespace tandem::worker::cuda {
namespace {

std::string Text(const absl::Status& status) { return std::string(status.message()); }

// A step of `tokens` tokens with all its KV in block 0, cut into sequences as long as they may be.
//
// Best tokens are wanted and whole rows too, so that all that brings either is used once.
struct WarmUpStep {
  WarmUpStep(const StepLimits& limits, int32_t tokens, int32_t longest)
      : tokens(static_cast<size_t>(std::min(longest, tokens)), 0), blocks(static_cast<size_t>(limits.table_stride())) {
    for (int32_t left = tokens; left > 0 && static_cast<int32_t>(sequences.size()) < limits.sequences;) {
      const int32_t count = std::min(left, longest);
      sequences.push_back({.tokens = absl::MakeConstSpan(this->tokens).first(static_cast<size_t>(count)),
                           .blocks = blocks,
                           .sample = true,
                           .wanted = {.best = kMostBestTokens, .temperature = 1}});
      left -= count;
    }
  }
  std::vector<TokenId> tokens;
  std::vector<BlockId> blocks;
  std::vector<SequenceInput> sequences;
};

}  // namespace

absl::StatusOr<std::unique_ptr<StepRunner>> StepRunner::Create(Options options, Stream stream,
                                                               std::unique_ptr<CudaDecoder> decoder,
                                                               Communicator* control,
                                                               DeviceCommunicator* communicator) {
  std::unique_ptr<StepRunner> runner(
      new StepRunner(std::move(options), std::move(stream), std::move(decoder), control, communicator));
  const DecoderLayout& layout = runner->decoder_->layout();
  const auto take = [&](MemoryCursor cursor) {
    runner->arrays_ = TakeStepArrays(layout.limits, &cursor);
    runner->tables_ = cursor.Take<int32_t>(int64_t{layout.limits.sequences} * layout.limits.table_stride());
    const int64_t rows = layout.first_rank ? layout.limits.sequences : 0;
    runner->logits_ = cursor.Take<float>(rows * layout.config->vocab);
    runner->reports_ = cursor.Take<RowReport>(rows * layout.shape.size);
    return cursor.taken();
  };
  absl::StatusOr<PinnedMemory> staging = PinnedMemory::Allocate(take(MemoryCursor::Counting()), "a step's arrays");
  if (!staging.ok()) return staging.status();
  runner->staging_ = *std::move(staging);
  take(MemoryCursor(runner->staging_.data(), runner->staging_.bytes()));

  absl::StatusOr<Event> done = Event::Create();
  if (!done.ok()) return done.status();
  runner->done_ = *std::move(done);
  if (layout.first_rank) runner->tokens_.resize(static_cast<size_t>(layout.limits.sequences) * kMostBestTokens);
  if (absl::Status created = runner->layers_.Create(layout.config->layers); !created.ok()) return created;
  return runner;
}

StepRunner::StepRunner(Options options, Stream stream, std::unique_ptr<CudaDecoder> decoder, Communicator* control,
                       DeviceCommunicator* communicator)
    : options_(std::move(options)),
      stream_(std::move(stream)),
      control_(*control),
      communicator_(*communicator),
      decoder_(std::move(decoder)) {}

absl::StatusOr<absl::Span<const float>> StepRunner::Run(const StepInput& step, const KvBlocks& kv) {
  if (!spent_.ok()) return spent_;
  const DecoderLayout& layout = decoder_->layout();
  const int32_t graph_size =
      IsDecodeStep(step) ? GraphSizeFor(graph_sizes_, static_cast<int32_t>(step.sequences.size())) : 0;
  const FilledStep filled = FillStep(step, graph_size, layout.limits, arrays_, tables_);
  if (absl::Status ran = RunFilled(filled, graph_size, kv); !ran.ok()) return ran;
  best_.clear();
  if (!layout.first_rank) return absl::Span<const float>();
  if (filled.most_best > 0) ReadReports(filled);
  const int64_t whole = std::count(arrays_.best, arrays_.best + filled.sampled, 0);
  return absl::MakeConstSpan(logits_, static_cast<size_t>(whole * layout.config->vocab));
}

absl::StatusOr<absl::Span<const float>> StepRunner::FetchRow(size_t i) {
  if (!spent_.ok()) return spent_;
  const DecoderLayout& layout = decoder_->layout();
  CHECK(layout.first_rank && step_.whole_rows && i < best_.size());
  // A row that was not brought leaves room behind those that were.
  float* const room = logits_ + (int64_t{layout.limits.sequences} - 1) * layout.config->vocab;
  if (absl::Status copied = CopyRows(static_cast<int32_t>(i), 1, room); !copied.ok()) return Fail(std::move(copied));
  if (absl::Status arrived = AwaitStream("a row of logits"); !arrived.ok()) return arrived;
  return absl::MakeConstSpan(room, static_cast<size_t>(layout.config->vocab));
}

void StepRunner::ReadReports(const FilledStep& filled) {
  const int32_t ranks = decoder_->layout().shape.size;
  std::vector<const RowReport*> reports(static_cast<size_t>(ranks));
  for (int32_t row = 0; row < filled.sampled; ++row) {
    const int32_t wanted = arrays_.best[row];
    if (wanted == 0) {
      best_.emplace_back();
      continue;
    }
    for (int32_t rank = 0; rank < ranks; ++rank) {
      reports[static_cast<size_t>(rank)] = reports_ + int64_t{rank} * filled.sampled + row;
    }
    best_.push_back(MergeReports(reports, wanted, arrays_.temperature[row],
                                 tokens_.data() + static_cast<size_t>(row) * kMostBestTokens));
  }
}

absl::Status StepRunner::RunFilled(const FilledStep& filled, int32_t graph_size, const KvBlocks& kv) {
  step_ = filled;
  layers_.BeginStep();
  absl::Status ran = Enqueue(filled, graph_size, kv);
  if (ran.ok()) {
    ran = Await("a step", [&]() -> absl::StatusOr<bool> {
      if (absl::Status looked = layers_.Look(); !looked.ok()) return looked;
      return done_.Passed();
    });
  }
  if (!ran.ok()) return Fail(std::move(ran));
  layers_.EndStep();
  return absl::OkStatus();
}

absl::Status StepRunner::Enqueue(const FilledStep& filled, int32_t graph_size, const KvBlocks& kv) {
  if (absl::Status sent = SendArrays(filled); !sent.ok()) return sent;
  const absl::Status enqueued =
      graph_size > 0 ? graphs_.Launch(graph_size, stream_.get())
                     : decoder_->Enqueue(filled.shape, kv, stream_.get(), [this] { return AfterLayer(); });
  if (!enqueued.ok()) return enqueued;
  if (filled.whole_rows) {
    if (absl::Status gathered = decoder_->GatherRows(filled.shape.rows, stream_.get()); !gathered.ok()) return gathered;
  }
  if (absl::Status fetched = FetchReports(filled); !fetched.ok()) return fetched;
  if (absl::Status fetched = FetchWholeRows(filled); !fetched.ok()) return fetched;
  return done_.Record(stream_.get());
}

absl::Status StepRunner::SendArrays(const FilledStep& filled) {
  const StepLimits& limits = decoder_->layout().limits;
  const DecoderBuffers& buffers = decoder_->buffers();
  // One after the other on both sides, so one copy.
  if (const cudaError_t error =
          cudaMemcpyAsync(buffers.step.tokens, arrays_.tokens, static_cast<size_t>(StepArrayBytes(limits)),
                          cudaMemcpyHostToDevice, stream_.get());
      error != cudaSuccess) {
    return ToStatus(error, "copying a step's arrays to the device");
  }
  const size_t pitch = static_cast<size_t>(limits.table_stride()) * sizeof(int32_t);
  return ToStatus(cudaMemcpy2DAsync(buffers.tables, pitch, tables_, pitch,
                                    static_cast<size_t>(filled.table_blocks) * sizeof(int32_t),
                                    static_cast<size_t>(filled.table_rows), cudaMemcpyHostToDevice, stream_.get()),
                  "copying a step's block tables to the device");
}

// As much of each report as anybody looks at.
absl::Status StepRunner::FetchReports(const FilledStep& filled) {
  const DecoderLayout& layout = decoder_->layout();
  if (!layout.first_rank || filled.most_best == 0) return absl::OkStatus();
  const size_t bytes =
      static_cast<size_t>(kReportHeadBytes) + static_cast<size_t>(filled.most_best) * sizeof(TokenLogit);
  for (int32_t rank = 0; rank < layout.shape.size; ++rank) {
    const cudaError_t error = cudaMemcpy2DAsync(
        reports_ + int64_t{rank} * filled.sampled, sizeof(RowReport), decoder_->ReportsOf(rank, filled.shape.rows),
        sizeof(RowReport), bytes, static_cast<size_t>(filled.sampled), cudaMemcpyDeviceToHost, stream_.get());
    if (error != cudaSuccess) return ToStatus(error, "copying the best tokens to the host");
  }
  return absl::OkStatus();
}

// The rows that are wanted whole, one after the other; neighbours in one copy.
absl::Status StepRunner::FetchWholeRows(const FilledStep& filled) {
  const DecoderLayout& layout = decoder_->layout();
  if (!layout.first_rank) return absl::OkStatus();
  float* to = logits_;
  for (int32_t row = 0; row < filled.sampled;) {
    int32_t end = row;
    while (end < filled.sampled && arrays_.best[end] == 0) ++end;
    if (end > row) {
      if (absl::Status copied = CopyRows(row, end - row, to); !copied.ok()) return copied;
      to += int64_t{end - row} * layout.config->vocab;
    }
    row = end + 1;
  }
  return absl::OkStatus();
}

// Each rank has computed its part of the vocabulary, padded; the host gets rows of the whole, without padding.
absl::Status StepRunner::CopyRows(int32_t row, int32_t count, float* to) {
  const DecoderLayout& layout = decoder_->layout();
  const int64_t vocab = layout.config->vocab;
  for (int32_t rank = 0; rank < layout.shape.size && layout.vocab_of(rank) > 0; ++rank) {
    const float* const from = decoder_->LogitsOf(rank, step_.shape.rows) + int64_t{row} * layout.shape.vocab;
    const cudaError_t error =
        cudaMemcpy2DAsync(to + int64_t{rank} * layout.shape.vocab, static_cast<size_t>(vocab) * sizeof(float), from,
                          static_cast<size_t>(layout.shape.vocab) * sizeof(float),
                          static_cast<size_t>(layout.vocab_of(rank)) * sizeof(float), static_cast<size_t>(count),
                          cudaMemcpyDeviceToHost, stream_.get());
    if (error != cudaSuccess) return ToStatus(error, "copying logits to the host");
  }
  return absl::OkStatus();
}

absl::Status StepRunner::AfterLayer() {
  if (absl::Status recorded = layers_.Record(stream_.get()); !recorded.ok()) return recorded;
  return Await("the layers of a step", [&]() -> absl::StatusOr<bool> {
    if (absl::Status looked = layers_.Look(); !looked.ok()) return looked;
    return layers_.may_enqueue();
  });
}

absl::Status StepRunner::Await(absl::string_view what, absl::FunctionRef<absl::StatusOr<bool>()> passed) {
  const auto health = [this] { return communicator_.Health(); };
  absl::Status done = AwaitDevice(what, {options_.wait_limit, health, passed});
  // A sum that failed lets the stream go on, over numbers that mean nothing.
  return done.ok() ? communicator_.Health() : done;
}

absl::Status StepRunner::AwaitStream(absl::string_view what) {
  absl::Status recorded = done_.Record(stream_.get());
  if (recorded.ok()) recorded = Await(what, [this] { return done_.Passed(); });
  return recorded.ok() ? recorded : Fail(std::move(recorded));
}

absl::Status StepRunner::Fail(absl::Status why) {
  spent_ = why;
  communicator_.Abort(Text(why));
  // Two sums a layer, those of the embedding and the gathered logits.
  const int64_t collectives = int64_t{2} * decoder_->layout().config->layers + 3;
  RestOrLose(why, stream_.get(), options_.drain_limit + communicator_.AbortTime(collectives), options_.on_lost);
  return spent_;
}

absl::Status StepRunner::WarmUp(const KvBlocks& stand_in) {
  // Peers may still read their weights.
  if (absl::Status met = control_.Barrier(); !met.ok()) return met;
  const StepLimits& limits = decoder_->layout().limits;
  const auto run = [&](int32_t tokens, int32_t longest) {
    const WarmUpStep step(limits, tokens, longest);
    return RunFilled(FillStep({step.sequences}, 0, limits, arrays_, tables_), 0, stand_in);
  };
  if (absl::Status prefilled = run(limits.tokens, limits.positions); !prefilled.ok()) return prefilled;
  if (absl::Status decoded = run(limits.sequences, 1); !decoded.ok()) return decoded;
  for (int64_t bucket = MatmulBucket(limits.tokens); bucket > 0; bucket /= 2) {
    const int64_t rows = std::min<int64_t>(bucket, limits.tokens);
    absl::Status touched = decoder_->TouchProducts(rows, stream_.get());
    if (touched.ok()) touched = decoder_->TouchSums(rows, stream_.get());
    if (!touched.ok()) return Fail(std::move(touched));
  }
  return AwaitStream("trying every product");
}

absl::Status StepRunner::CaptureGraphs(absl::Span<const int32_t> sizes, const KvBlocks& kv) {
  absl::Status captured;
  // The largest first: what it takes, the smaller ones can take again.
  for (auto size = sizes.rbegin(); size != sizes.rend() && captured.ok(); ++size) {
    const StepShape shape{.tokens = *size, .decodes = *size, .rows = *size, .best = true};
    captured = graphs_.Capture(*size, stream_.get(), [&] {
      return decoder_->Enqueue(shape, kv, stream_.get(), [] { return absl::OkStatus(); });
    });
  }
  if (IsSticky(captured)) return Fail(std::move(captured));
  const uint8_t mine = captured.ok() ? 1 : 0;
  std::vector<uint8_t> all(static_cast<size_t>(control_.size()));
  if (absl::Status told = control_.AllGather({&mine, 1}, absl::MakeSpan(all)); !told.ok()) return told;
  const auto refused = std::find(all.begin(), all.end(), 0);
  if (refused == all.end()) {
    graph_sizes_.assign(sizes.begin(), sizes.end());
    return absl::OkStatus();
  }
  LOG(WARNING) << "decode steps are computed launch by launch: rank " << refused - all.begin()
               << " could not capture them" << (captured.ok() ? "" : absl::StrCat(": ", Text(captured)));
  graph_sizes_.clear();
  graphs_.Clear();
  return absl::OkStatus();
}

}  // namespace tandem::worker::cuda
