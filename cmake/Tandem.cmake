# Helpers, so that a folder's CMakeLists.txt reads as a list of nouns and of what each may include.
#
#   tandem_library(name SRCS a.cc b.cc DEPS other absl::status)
#   tandem_program(name SRCS main.cc DEPS ...)            # lands in <build>/bin
#   tandem_cuda_plugin(name DEPS ...)                     # lands in <build>/lib
#   tandem_test(name SRCS a_test.cc b_test.cc DEPS ... [DATA_ENV NAME=VALUE ...] [LABELS ...])
#
# A library's link line is also its include permission: every library exports the repository root, but the headers of
# gRPC, oneDNN, PCRE2 and so on come only with the target that links them.

function(tandem_library name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SRCS})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS} tandem_warnings)
endfunction()

function(tandem_program name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SRCS})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} tandem_warnings)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
endfunction()

# The library that tandem-worker loads for a GPU, over all that is in DEPS. Shows one symbol: the door.
function(tandem_cuda_plugin name)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  set(map ${PROJECT_SOURCE_DIR}/worker/cuda/plugin.map)
  add_library(${name} MODULE ${PROJECT_SOURCE_DIR}/worker/cuda/plugin.cc)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} tandem_warnings)
  target_compile_definitions(${name} PRIVATE TANDEM_VERSION="${PROJECT_VERSION}")
  target_link_options(${name} PRIVATE -Wl,--version-script=${map} -Wl,--no-undefined)
  set_target_properties(${name} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib LINK_DEPENDS ${map})
endfunction()

function(tandem_test name)
  if(NOT TANDEM_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "TIMEOUT" "SRCS;DEPS;DATA_ENV;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SRCS})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} tandem_warnings GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}"
    ENVIRONMENT "TANDEM_SOURCE_DIR=${PROJECT_SOURCE_DIR};TANDEM_BUILD_DIR=${PROJECT_BINARY_DIR};${ARG_DATA_ENV}")
endfunction()
