# CUDA is a plugin (worker/cuda), so nothing else of the build depends on what is found here.
#
#   TANDEM_CUDA=AUTO   built where nvcc, cuBLASLt and NCCL are found; a line says so or says what was missing
#   TANDEM_CUDA=ON     as AUTO, and an error where something is missing
#   TANDEM_CUDA=OFF    not built; the emulated plugin (tests/emulation) is, since it needs nothing of NVIDIA
#
# NCCL may be elsewhere than the toolkit: TANDEM_NCCL_ROOT is a folder with include/ and lib/, such as nvidia/nccl in the
# site-packages of a Python, whose package has the library without the name that linkers ask for.
#
# Sets TANDEM_CUDA_FOUND, and with it the targets CUDA::cudart_static, CUDA::cublasLt and tandem_nccl.

set(TANDEM_CUDA AUTO CACHE STRING "The CUDA plugin: AUTO (where the toolkit is), ON or OFF")
# One binary for each generation that serves models today, and PTX that later drivers compile for later ones.
set(TANDEM_CUDA_ARCHITECTURES "80-real;86-real;89-real;90" CACHE STRING
  "Architectures of the CUDA plugin; N-real is a binary, N a binary and PTX")

set(TANDEM_NCCL_ROOT "" CACHE PATH "A folder with NCCL's include/ and lib/, where it is not beside the toolkit")

set(TANDEM_CUDA_FOUND OFF)
if(TANDEM_CUDA)
  set(missing "")
  find_program(TANDEM_NVCC nvcc PATHS /usr/local/cuda/bin /opt/cuda/bin ENV CUDA_PATH PATH_SUFFIXES bin)
  if(NOT TANDEM_NVCC)
    list(APPEND missing nvcc)
  else()
    set(CMAKE_CUDA_COMPILER ${TANDEM_NVCC})
    set(CMAKE_CUDA_ARCHITECTURES ${TANDEM_CUDA_ARCHITECTURES})
    find_package(CUDAToolkit QUIET)
    if(NOT TARGET CUDA::cublasLt)
      list(APPEND missing cuBLASLt)
    endif()
    if(NOT TARGET CUDA::cudart_static)
      list(APPEND missing cudart_static)
    endif()
    find_path(TANDEM_NCCL_INCLUDE nccl.h HINTS ${TANDEM_NCCL_ROOT}/include ${CUDAToolkit_INCLUDE_DIRS})
    find_library(TANDEM_NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS ${TANDEM_NCCL_ROOT}/lib ${CUDAToolkit_LIBRARY_DIR})
    if(NOT TANDEM_NCCL_INCLUDE OR NOT TANDEM_NCCL_LIBRARY)
      list(APPEND missing NCCL)
    endif()
  endif()
  if(missing AND NOT TANDEM_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "TANDEM_CUDA=${TANDEM_CUDA}, and not found: ${missing}")
  elseif(missing)
    message(STATUS "CUDA plugin: not built, not found: ${missing}")
  else()
    enable_language(CUDA)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
      message(FATAL_ERROR "CUDA ${CMAKE_CUDA_COMPILER_VERSION} does not know C++20; 12.0 does. TANDEM_CUDA=OFF builds without")
    endif()
    set(TANDEM_CUDA_FOUND ON)
    message(STATUS "CUDA plugin: toolkit ${CMAKE_CUDA_COMPILER_VERSION}, architectures ${TANDEM_CUDA_ARCHITECTURES}")
  endif()
endif()

if(TANDEM_CUDA_FOUND)
  # CMake 3.25 does not know that nvcc 12 learned C++20.
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  # Line numbers cost nothing at run time, and profilers and compute-sanitizer name them.
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -lineinfo")
  if(CCACHE)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
  endif()
  if(NOT TARGET tandem_nccl)
    # mold makes what worker/cuda/sum_window.cc may do without a thing that is needed: an older NCCL would not load.
    add_library(tandem_nccl SHARED IMPORTED)
    set_target_properties(tandem_nccl PROPERTIES IMPORTED_LOCATION ${TANDEM_NCCL_LIBRARY}
      INTERFACE_INCLUDE_DIRECTORIES ${TANDEM_NCCL_INCLUDE} INTERFACE_LINK_OPTIONS -fuse-ld=bfd)
  endif()
endif()
