// The kernels that are compiled once per instruction set, and the choice between them.
//
// All variants run the same templates (matmul_kernel.h, attention_kernel.h, activation_kernel.h, norm_kernel.h) over
// another vector type, and the templates fix the order of every sum by element, not by vector width. Variants with
// fused multiply-add therefore give the same bits; the generic one rounds between product and sum.
//
// Arguments are plain structs of pointers: the variants' files must not share inline functions with the rest of the
// program, or the linker could keep a copy that this CPU cannot run.
#ifndef TANDEM_WORKER_EXEC_OPS_CPU_KERNELS_H_
#define TANDEM_WORKER_EXEC_OPS_CPU_KERNELS_H_

#include <cstdint>

namespace tandem::worker {

// output[r][c] = bias[c] + sum over k of input[r][k] * weight[c][k], for the panels [panel_begin, panel_end).
// The sum runs over k upwards in one chain, begun by the bias, whatever the number of rows.
struct MatmulArgs {
  const float* input = nullptr;
  int64_t input_stride = 0;  // floats from row to row
  int64_t rows = 0;
  const void* panels = nullptr;  // PackedMatrix::data
  bool bf16 = false;             // else float32
  int64_t inner = 0;
  int64_t columns = 0;
  const float* bias = nullptr;  // may be null
  float* output = nullptr;
  int64_t output_stride = 0;
  int64_t panel_begin = 0;
  int64_t panel_end = 0;
};

// Attention of one sequence's new tokens over its KV blocks, for the KV heads [kv_head_begin, kv_head_end) of this
// rank. A query walks the tiles of its range upwards, a tile being one block; softmax is rescaled tile by tile.
struct AttentionArgs {
  const float* queries = nullptr;  // token t, head h at queries + t * query_stride + h * head_dim
  int64_t query_stride = 0;
  float* output = nullptr;  // laid out alike
  int64_t output_stride = 0;
  int64_t tokens = 0;
  int64_t start = 0;                // position of the first token
  const int32_t* blocks = nullptr;  // block table from position 0
  const void* pool = nullptr;       // of this layer, see kv_pool.h
  int64_t block_stride = 0;         // elements from block to block
  bool bf16 = false;
  int64_t kv_head_begin = 0;
  int64_t kv_head_end = 0;
  int64_t group = 0;  // query heads per KV head
  int64_t head_dim = 0;
  int64_t window = 0;      // 0: none
  bool both_ways = false;  // an encoder: every token sees all `tokens`; start and window are 0
  float scale = 0;
};

// a[i] = act(a[i]) * b[i], or act(a[i]) where b is null, for `count` values.
struct ActivationArgs {
  float* a = nullptr;
  const float* b = nullptr;
  int64_t count = 0;
};

struct NormArgs {
  const float* input = nullptr;
  float* output = nullptr;
  int64_t count = 0;
  const float* weight = nullptr;
  const float* bias = nullptr;  // LayerNorm only
  float epsilon = 0;
};

// Rounds rows of `inner` floats to bfloat16 in their own place: the front half of each row then holds them in pairs, an
// odd last one with a zero beside it.
struct RoundRowsArgs {
  float* rows = nullptr;
  int64_t stride = 0;
  int64_t count = 0;
  int64_t inner = 0;
};

struct CpuKernels {
  const char* isa;            // as --isa names it
  const char* numerics_fp32;  // of models stored in float32: equal names, equal bits
  const char* numerics_bf16;  // of models stored in bfloat16
  // Null, or what every input of a product with bfloat16 weights has to pass first.
  void (*round_rows)(const RoundRowsArgs&);
  void (*matmul)(const MatmulArgs&);
  void (*attention)(const AttentionArgs&);
  void (*silu)(const ActivationArgs&);
  void (*gelu_tanh)(const ActivationArgs&);
  void (*gelu)(const ActivationArgs&);
  void (*relu)(const ActivationArgs&);
  void (*quick_gelu)(const ActivationArgs&);
  void (*rms_norm)(const NormArgs&);
  void (*layer_norm)(const NormArgs&);
};

extern const CpuKernels kGenericKernels;
#if defined(__x86_64__)
extern const CpuKernels kAvx2Kernels;
extern const CpuKernels kAvx512Kernels;
extern const CpuKernels kAvx512Bf16Kernels;
#endif

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_OPS_CPU_KERNELS_H_
