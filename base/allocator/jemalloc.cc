// How jemalloc is set up in the programs that link tandem_allocator; jemalloc reads this name before main.
//
// A scheduler's state is tens of megabytes that every event reads elsewhere, so it lies in huge pages: walks through 4
// KiB pages cost as much as the reading. MALLOC_CONF in the environment overrides this.
extern "C" {
extern const char* malloc_conf;
const char* malloc_conf = "thp:always,metadata_thp:auto";
}
