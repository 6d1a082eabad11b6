#include "worker/cuda/step_batch.h"

#include <algorithm>
#include <cstring>

namespace tandem::worker::cuda {
namespace {

bool Decodes(const SequenceInput& sequence) { return sequence.tokens.size() == 1; }

// Appends sequences of one kind after the other.
class Filler {
 public:
  Filler(const StepLimits& limits, const StepArrays& arrays, int32_t* tables)
      : limits_(limits), arrays_(arrays), tables_(tables) {}

  void Add(const SequenceInput& sequence) {
    const int32_t count = static_cast<int32_t>(sequence.tokens.size());
    const int32_t first = static_cast<int32_t>(filled_.shape.tokens);
    for (int32_t i = 0; i < count; ++i) {
      const int32_t position = sequence.start + i;
      arrays_.tokens[first + i] = sequence.tokens[static_cast<size_t>(i)];
      arrays_.positions[first + i] = position;
      arrays_.slots[first + i] =
          sequence.blocks[static_cast<size_t>(position / kBlockTokens)] * kBlockTokens + position % kBlockTokens;
    }
    const int32_t blocks = (sequence.start + count + kBlockTokens - 1) / kBlockTokens;
    std::memcpy(tables_ + int64_t{filled_.table_rows} * limits_.table_stride(), sequence.blocks.data(),
                static_cast<size_t>(blocks) * sizeof(int32_t));
    filled_.table_blocks = std::max(filled_.table_blocks, blocks);
    ++filled_.table_rows;
    StepShape& shape = filled_.shape;
    if (Decodes(sequence)) {
      arrays_.contexts[shape.decodes++] = sequence.start + 1;
    } else {
      arrays_.token_begin[shape.prefills] = first;
      arrays_.start[shape.prefills] = sequence.start;
      ++shape.prefills;
      shape.longest_prefill = std::max(shape.longest_prefill, count);
      arrays_.token_begin[shape.prefills] = first + count;
    }
    shape.tokens += count;
  }

  void AddRow(int32_t token, const LogitsWanted& wanted) {
    arrays_.best[filled_.shape.rows] = wanted.best;
    arrays_.temperature[filled_.shape.rows] = wanted.temperature;
    arrays_.rows[filled_.shape.rows++] = token;
    filled_.most_best = std::max(filled_.most_best, wanted.best);
    filled_.shape.best |= wanted.best > 0;
    filled_.whole_rows |= wanted.best == 0 || wanted.row;
  }
  // A row that nobody looks at.
  void AddSpareRow(int32_t token) {
    arrays_.best[filled_.shape.rows] = 0;
    arrays_.temperature[filled_.shape.rows] = 0;
    arrays_.rows[filled_.shape.rows++] = token;
  }

  void Pad(int32_t size) {
    StepShape& shape = filled_.shape;
    for (; shape.decodes < size; ++shape.decodes, ++shape.tokens) {
      arrays_.tokens[shape.tokens] = -1;
      arrays_.positions[shape.tokens] = 0;
      arrays_.slots[shape.tokens] = -1;
      arrays_.contexts[shape.decodes] = 0;
    }
  }

  FilledStep& filled() { return filled_; }

 private:
  const StepLimits& limits_;
  const StepArrays& arrays_;
  int32_t* const tables_;
  FilledStep filled_;
};

}  // namespace

StepArrays TakeStepArrays(const StepLimits& limits, MemoryCursor* cursor) {
  StepArrays arrays;
  arrays.tokens = cursor->Take<int32_t>(limits.tokens);
  arrays.positions = cursor->Take<int32_t>(limits.tokens);
  arrays.slots = cursor->Take<int32_t>(limits.tokens);
  arrays.contexts = cursor->Take<int32_t>(limits.sequences);
  arrays.token_begin = cursor->Take<int32_t>(limits.sequences + 1);
  arrays.start = cursor->Take<int32_t>(limits.sequences);
  arrays.rows = cursor->Take<int32_t>(limits.sequences);
  arrays.best = cursor->Take<int32_t>(limits.sequences);
  arrays.temperature = cursor->Take<float>(limits.sequences);
  return arrays;
}

int64_t StepArrayBytes(const StepLimits& limits) {
  MemoryCursor counting = MemoryCursor::Counting();
  TakeStepArrays(limits, &counting);
  return counting.taken();
}

FilledStep FillStep(const StepInput& step, int32_t graph_size, const StepLimits& limits, const StepArrays& arrays,
                    int32_t* tables) {
  Filler filler(limits, arrays, tables);
  for (const SequenceInput& sequence : step.sequences) {
    if (Decodes(sequence)) filler.Add(sequence);
  }
  const int32_t decodes = filler.filled().shape.decodes;
  filler.Pad(graph_size);
  for (const SequenceInput& sequence : step.sequences) {
    if (!Decodes(sequence)) filler.Add(sequence);
  }
  // Where each sequence's last token has come to lie.
  const auto each_last = [&](auto row) {
    int32_t decode = 0;
    int32_t prefill_end = decodes;
    for (const SequenceInput& sequence : step.sequences) {
      if (Decodes(sequence)) {
        row(sequence, decode++);
      } else {
        prefill_end += static_cast<int32_t>(sequence.tokens.size());
        row(sequence, prefill_end - 1);
      }
    }
  };
  each_last([&](const SequenceInput& sequence, int32_t token) {
    if (sequence.sample) filler.AddRow(token, sequence.wanted);
  });
  filler.filled().sampled = filler.filled().shape.rows;
  if (graph_size > 0) {
    // A graph computes a row for each of its tokens, and takes none twice.
    each_last([&](const SequenceInput& sequence, int32_t token) {
      if (!sequence.sample) filler.AddSpareRow(token);
    });
    for (int32_t token = decodes; token < graph_size; ++token) filler.AddSpareRow(token);
    filler.filled().shape.best = true;  // For whoever may want them: a graph is captured once.
  }
  return filler.filled();
}

}  // namespace tandem::worker::cuda
