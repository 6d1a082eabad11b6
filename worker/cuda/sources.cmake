# The sources of the CUDA plugin, from the repository's root. Read twice: by worker/cuda, where nvcc and the toolkit's headers
# compile them, and by tests/emulation, where g++ compiles the same files against CUDA on the host.
#
# Kernels and their launches are in .cu, everything else in .cc, which compiles in a tenth of the time.
# The operators and what they stand on: these need the runtime only, and their tests link nothing else.
set(TANDEM_CUDA_OP_SOURCES
  worker/cuda/check.cc
  worker/cuda/ops/activation.cu
  worker/cuda/ops/decode_attention.cu
  worker/cuda/ops/embedding.cu
  worker/cuda/ops/gather.cu
  worker/cuda/ops/gemv.cu
  worker/cuda/ops/kernel_work.cc
  worker/cuda/ops/norm.cu
  worker/cuda/ops/patches.cu
  worker/cuda/ops/pool.cu
  worker/cuda/ops/prefill_attention.cu
  worker/cuda/ops/rope.cu
  worker/cuda/ops/sampling.cu
)
# Their tests, built on a device (tests/gpu) and without one (tests/emulation).
set(TANDEM_CUDA_OP_TESTS
  worker/cuda/ops/decode_attention_test.cc
  worker/cuda/ops/encoder_ops_test.cc
  worker/cuda/ops/gemv_test.cc
  worker/cuda/ops/prefill_attention_test.cc
  worker/cuda/ops/sampling_test.cc
  worker/cuda/ops/simple_ops_test.cc
)
set(TANDEM_CUDA_SOURCES
  worker/cuda/clip_batch.cc
  worker/cuda/cublaslt_matmul.cc
  worker/cuda/cuda_clip.cc
  worker/cuda/cuda_decoder.cc
  worker/cuda/cuda_encoder.cc
  worker/cuda/cuda_executor.cc
  worker/cuda/decode_graphs.cc
  worker/cuda/decoder_buffers.cc
  worker/cuda/device_encoder.cc
  worker/cuda/device_handle.cc
  worker/cuda/device_list.cc
  worker/cuda/device_memory.cc
  worker/cuda/device_road.cc
  worker/cuda/device_weights.cc
  worker/cuda/encoder_device_weights.cc
  worker/cuda/encoder_executor.cc
  worker/cuda/encoder_layers.cc
  worker/cuda/graph_sizes.cc
  worker/cuda/join_devices.cc
  worker/cuda/layer_progress.cc
  worker/cuda/nccl_communicator.cc
  worker/cuda/nccl_path.cc
  worker/cuda/peer_check.cc
  worker/cuda/staged_communicator.cc
  worker/cuda/step_batch.cc
  worker/cuda/step_runner.cc
  worker/cuda/stream.cc
  worker/cuda/sum_window.cc
  worker/cuda/text_batch.cc
  worker/cuda/weight_layout.cc
  worker/cuda/weight_upload.cc
)
# What may be named here and in .cu alike: no gRPC, no engine.
set(TANDEM_CUDA_DEPS
  tandem_comm tandem_exec tandem_model tandem_model_files absl::status absl::statusor absl::strings absl::str_format absl::span absl::time glog::glog
  Threads::Threads ${CMAKE_DL_LIBS})
