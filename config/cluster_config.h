// One cluster's configuration: the same file for the scheduler, `tandemctl up` and the CLI's address lookup.
//
// Four layers, each over the next: flag, environment, file, default. LoadClusterConfig applies them, checks the whole
// and keeps beside every value where it came from. What it returns is valid: ranges, names, addresses and duplicates
// have been checked, so nobody checks again. Plain values; nobody changes them after the load.
#ifndef TANDEM_CONFIG_CLUSTER_CONFIG_H_
#define TANDEM_CONFIG_CLUSTER_CONFIG_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/security/identity_rules.h"
#include "base/security/settings.h"

namespace tandem::config {

// Addresses are HOST:PORT, checked. Port 0 means any free one.
struct ServerConfig {
  std::string clients = "127.0.0.1:50051";
  std::string workers = "127.0.0.1:50061";
  std::string admin = "127.0.0.1:50052";
  std::string http = "127.0.0.1:8000";
  std::string metrics = "127.0.0.1:9464";
  std::string api_keys_file;                      // of the gateway: NAME:KEY lines; empty = none
  bool plaintext_beyond_loopback = false;         // without it, other machines can reach an address over TLS only
  absl::Duration stop_grace = absl::Seconds(30);  // what runs when a program is told to end gets so long to end
  std::string reflection = "loopback";            // loopback, always, never: where gRPC says which services it has
};

// TLS at the doors, and roles at the three of gRPC. docs/security.md has the whole.
struct SecurityConfig {
  security::DoorSettings all;                      // of every door of gRPC, where its own say nothing
  security::DoorSettings clients, workers, admin;  // after the load: whole, with what `all` gave
  security::DoorSettings http;                     // of the gateway; nothing of `all`, since others come to it
  std::vector<security::IdentityRule> identities;  // what certificates may do
  std::string tokens;                              // a file: what the bearers of tokens may do
  absl::Duration refresh = absl::Minutes(1);       // certificates, keys and tokens are read again so often
  security::DialSettings dial;                     // how workers, gateway and CLI dial the doors

  // Without identities and tokens, whoever gets through the door may do all that is behind it.
  bool roles() const { return !identities.empty() || !tokens.empty(); }
};

struct DevicesConfig {
  std::vector<std::string> select;  // "cpu:0", "cuda:1", "sim:H100", ...; empty = all that this machine has
  double memory_utilization = 0;    // share of a device that all shards may take together; (0, 1]
  uint64_t reserve_bytes = 0;       // of each device, for others
  uint64_t cpu_memory_bytes = 0;    // of each CPU device; 0 = this machine's memory over the number of CPU devices
  int cpu_threads = 0;              // of each CPU device; 0 = cores over the number of CPU devices
  uint64_t sim_memory_bytes = 0;    // of each simulated device; 0 = the chip's
  double sim_speedup = 1;           // of simulated devices over the real ones; 0 = no waiting
};

struct ModelConfig {
  std::string name;
  std::vector<std::string> aliases;  // "*" answers to any name
  std::string path;                  // a folder under the model root of each machine, an absolute one, or a hub id
  std::string task = "generate";     // generate, embed, rerank
  int tensor_parallel = 0;           // 0 = auto
  int replicas_min = 1;
  int replicas_max = 1;
  std::string dtype = "auto";       // auto, float32, bfloat16, float16
  int max_model_len = 0;            // tokens; 0 = what the model's files say
  double memory_utilization = 1.0;  // cap of this model's share of a device
  uint64_t kv_memory_bytes = 0;     // cap of each rank's KV pool; 0 = what fits
  int max_num_seqs = 0;             // 0 = the scheduler's default
  std::string goal = "throughput";  // throughput, latency: what `tensor_parallel: auto` makes the most of
  int priority = 0;                 // of placement, and of spare replicas; -100 to 100
  std::string chat_template;        // a file; empty = the model's own
};

// The scheduler's limits. The defaults' reasons stand at core::CoreOptions.
struct SchedulingConfig {
  int waiting_room_requests = 1024;
  int64_t waiting_room_tokens = 4 << 20;
  int64_t waiting_room_bytes = 64 << 20;
  int class_room_percent = 100;
  int tenant_room_percent = 50;
  int quarantine_after = 3;
  absl::Duration quarantine_cool_off = absl::Minutes(10);
  int quarantine_percent = 50;
  std::string device_health;                        // a table of one's own (device_health.h), before the shipped one
  double overcommit = 1.0;                          // booked KV over real KV
  absl::Duration client_stall = absl::Seconds(60);  // a client that takes no message for so long is let go; 0: never
  int remembered = 2048;                            // ended requests that can still be explained
  absl::Duration step_budget = absl::Milliseconds(200);  // prefill is cut so that a step takes about this long
  bool prefix_cache = true;
  bool sharing = true;      // groups of one rank may live beside others on a device where there is no other room
  double move_gain = 0.15;  // share of a step's time that a running group must gain by a move; 0: none moves
  std::string link_probe = "once";  // off, once, periodic: whether the links of a host are measured while it is idle
};

struct MetricsConfig {
  std::vector<std::string> compat;  // "vllm": its names too
};

struct LogConfig {
  std::string format = "text";  // text, json: of all programs that `tandemctl up` starts
};

struct ClusterConfig {
  std::string profile = "production";  // development, staging, production: memory utilisation 0.80, 0.85, 0.90
  std::string state_dir;               // absolute
  // Absolute, and then no model may lie outside it. Empty: any folder; relative paths start at the working folder.
  std::string model_root;
  double time_scale = 1.0;  // stretches every time-out, for slow builds
  ServerConfig server;
  SecurityConfig security;
  DevicesConfig devices;
  SchedulingConfig scheduling;
  MetricsConfig metrics;
  LogConfig log;
  std::vector<ModelConfig> models;
};

// "server.clients" = "127.0.0.1:50051" from "file config/cpu.yaml:3". A model's keys are "models.NAME.KEY".
struct Setting {
  std::string key;
  std::string value;
  std::string origin;  // default, "profile P", "file F:LINE", "environment VAR", or the flag's name
};

struct LoadedConfig {
  ClusterConfig config;
  std::vector<Setting> settings;      // every key, in the order of the struct
  std::vector<std::string> warnings;  // what was set and cannot be honoured, one sentence each
};

// A value from the command line: which key, what the user typed, and the flag's name for messages and origins.
struct FlagValue {
  std::string key;   // "server.clients"
  std::string text;  // as in the file; lists are separated by commas
  std::string flag;  // "--clients"
};

using Environment = std::map<std::string, std::string>;
Environment ProcessEnvironment();

// `path` empty: no file. A relative path inside the file is relative to the file's folder, elsewhere to the working
// folder. Every failure is INVALID_ARGUMENT and names file and line, variable or flag.
absl::StatusOr<LoadedConfig> LoadClusterConfig(const std::string& path, const std::vector<FlagValue>& flags = {},
                                               const Environment& environment = ProcessEnvironment());

}  // namespace tandem::config

#endif  // TANDEM_CONFIG_CLUSTER_CONFIG_H_
