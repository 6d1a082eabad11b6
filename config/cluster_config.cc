#include "config/cluster_config.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "config/endpoint.h"
#include "config/environment.h"
#include "config/schema.h"
#include "config/security_rules.h"
#include "config/yaml_reader.h"

extern char** environ;

namespace tandem::config {
namespace {

constexpr const char* kDefault = "default";

std::string Absolute(const std::string& path, const std::filesystem::path& base) {
  const std::filesystem::path given(path);
  return (given.is_absolute() ? given : base / given).lexically_normal().string();
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return absl::InvalidArgumentError(absl::StrCat("configuration ", path, ": no such file"));
  }
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  if (!std::filesystem::is_regular_file(path, error) || !in || !(text << in.rdbuf() || in.peek() == EOF)) {
    return absl::InvalidArgumentError(absl::StrCat("configuration ", path, ": cannot be read"));
  }
  return text.str();
}

// Applies the layers from the lowest to the highest; the last to write a key is its origin.
class Loader {
 public:
  Loader() {
    std::error_code error;
    working_folder_ = std::filesystem::current_path(error);
  }

  void ApplyDefaults(const Environment& environment) {
    const auto get = [&environment](const char* name) {
      const auto it = environment.find(name);
      return it == environment.end() ? std::string() : it->second;
    };
    ClusterConfig& config = loaded_.config;
    if (!get("XDG_STATE_HOME").empty()) {
      config.state_dir = get("XDG_STATE_HOME") + "/tandem";
    } else {
      config.state_dir = get("HOME").empty() ? "/var/lib/tandem" : get("HOME") + "/.local/state/tandem";
    }
    config.state_dir = Absolute(config.state_dir, working_folder_);
  }

  absl::Status ApplyFile(const std::string& path) {
    const auto text = ReadFile(path);
    if (!text.ok()) return text.status();
    const auto contents = ReadYaml(*text, path);
    if (!contents.ok()) return contents.status();
    const std::filesystem::path folder = std::filesystem::path(Absolute(path, working_folder_)).parent_path();
    const auto at = [&path](int line) { return absl::StrCat(path, ":", line); };
    for (const FileEntry& entry : contents->entries) {
      const auto status = Apply(entry.key, entry.text, folder, absl::StrCat("file ", at(entry.line)), at(entry.line));
      if (!status.ok()) return status;
    }
    for (const FileModel& model : contents->models) {
      AddModel(at(model.line));
      for (const FileEntry& entry : model.entries) {
        const auto status = ApplyModel(loaded_.config.models.size() - 1, entry.key, entry.text, folder,
                                       absl::StrCat("file ", at(entry.line)), at(entry.line));
        if (!status.ok()) return status;
      }
    }
    return absl::OkStatus();
  }

  absl::Status ApplyEnvironment(const Environment& environment) {
    auto contents = ReadEnvironment(environment);
    if (!contents.ok()) return contents.status();
    loaded_.warnings = std::move(contents->warnings);
    if (!contents->token.empty()) {  // over the file's, under a file that the environment or a flag names
      loaded_.config.security.dial.token = std::move(contents->token);
      loaded_.config.security.dial.token_file.clear();
      origins_["security.dial.token_file"] = "environment TANDEM_TOKEN";
    }
    for (const EnvironmentEntry& entry : contents->entries) {
      const std::string origin = "environment " + entry.variable;
      const auto status = entry.first_model ? ApplyFirstModel(entry, origin)
                                            : Apply(entry.key, entry.text, working_folder_, origin, origin);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status ApplyFlags(const std::vector<FlagValue>& flags) {
    for (const FlagValue& flag : flags) {
      const auto status = Apply(flag.key, flag.text, working_folder_, flag.flag, flag.flag);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  // What a profile chooses, where nothing stronger did.
  void ApplyProfile() {
    ClusterConfig& config = loaded_.config;
    if (config.devices.memory_utilization != 0) return;
    config.devices.memory_utilization = config.profile == "development" ? 0.80
                                        : config.profile == "staging"   ? 0.85
                                                                        : 0.90;
    origins_["devices.memory_utilization"] = "profile " + config.profile;
  }

  // What all doors have, where one says nothing of its own.
  void ApplyCommonSecurity() {
    InheritDoors(loaded_.config.security);
    for (const ClusterKey& key : ClusterKeys()) {
      const std::string name = key.name;
      const size_t field = name.rfind('.');
      if (!absl::StartsWith(name, "security.") || origins_.count(name) > 0) continue;
      if (absl::StartsWith(name, "security.http.")) continue;
      const auto common = origins_.find(absl::StrCat("security", field == std::string::npos ? "" : name.substr(field)));
      if (common != origins_.end() && !key.write(loaded_.config).empty()) origins_[name] = common->second;
    }
  }

  absl::Status Check() {
    if (const auto status = CheckModels(); !status.ok()) return status;
    if (const auto status = CheckSecurity(loaded_.config.security); !status.ok()) return status;
    if (const auto status = CheckAddresses(); !status.ok()) return status;
    for (std::string& warning : SecurityWarnings(loaded_.config.server, loaded_.config.security)) {
      loaded_.warnings.push_back(std::move(warning));
    }
    return absl::OkStatus();
  }

  LoadedConfig Finish() {
    const auto origin = [this](const std::string& key) {
      const auto it = origins_.find(key);
      return it == origins_.end() ? std::string(kDefault) : it->second;
    };
    for (const ClusterKey& key : ClusterKeys()) {
      loaded_.settings.push_back({key.name, key.write(loaded_.config), origin(key.name)});
    }
    for (size_t i = 0; i < loaded_.config.models.size(); ++i) {
      const ModelConfig& model = loaded_.config.models[i];
      for (const ModelKey& key : ModelKeys()) {
        loaded_.settings.push_back({absl::StrCat("models.", model.name, ".", key.name), key.write(model),
                                    origin(absl::StrCat("models[", i, "].", key.name))});
      }
    }
    return std::move(loaded_);
  }

 private:
  absl::Status Apply(const std::string& name, std::string text, const std::filesystem::path& base,
                     const std::string& origin, const std::string& where) {
    const ClusterKey* key = FindClusterKey(name);
    if (key == nullptr) return absl::InternalError(absl::StrCat(where, ": no key ", name));
    if (key->shape == Shape::kPath && !text.empty()) text = Absolute(text, base);
    if (const auto status = key->read(text, loaded_.config); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": ", name, ": ", status.message()));
    }
    origins_[name] = origin;
    return absl::OkStatus();
  }

  absl::Status ApplyModel(size_t index, const std::string& name, std::string text, const std::filesystem::path& base,
                          const std::string& origin, const std::string& where) {
    const ModelKey* key = FindModelKey(name);
    if (key->shape == Shape::kPath && !text.empty()) text = Absolute(text, base);
    const std::string full = absl::StrCat("models[", index, "].", name);
    if (const auto status = key->read(text, loaded_.config.models[index]); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": ", full, ": ", status.message()));
    }
    origins_[full] = origin;
    return absl::OkStatus();
  }

  absl::Status ApplyFirstModel(const EnvironmentEntry& entry, const std::string& origin) {
    if (loaded_.config.models.empty()) {
      // VLLM_MODEL comes first in the table; the others only change a model that is there.
      if (entry.key != "path") {
        loaded_.warnings.push_back(absl::StrCat(origin, " is set, but no model is configured that it could change"));
        return absl::OkStatus();
      }
      AddModel(origin);
      const std::string name = std::filesystem::path(entry.text).filename().string();
      const auto status = ApplyModel(0, "name", name, working_folder_, origin, origin);
      if (!status.ok()) return status;
    }
    return ApplyModel(0, entry.key, entry.text, working_folder_, origin, origin);
  }

  void AddModel(const std::string& where) {
    loaded_.config.models.emplace_back();
    model_places_.push_back(where);
  }

  absl::Status CheckModels() const {
    struct Owner {
      size_t model;
      bool alias;
    };
    std::map<std::string, Owner> owners;
    const auto claim = [&](const std::string& name, size_t model, bool alias) {
      const auto [it, fresh] = owners.insert({name, {model, alias}});
      if (fresh) return absl::OkStatus();
      return absl::InvalidArgumentError(absl::StrCat(model_places_[model], ": ", alias ? "alias" : "model", " \"", name,
                                                     "\" is taken by the ", it->second.alias ? "alias" : "model",
                                                     " at ", model_places_[it->second.model]));
    };
    for (size_t i = 0; i < loaded_.config.models.size(); ++i) {
      const ModelConfig& model = loaded_.config.models[i];
      if (const auto status = claim(model.name, i, false); !status.ok()) return status;
      for (const std::string& alias : model.aliases) {
        if (const auto status = claim(alias, i, true); !status.ok()) return status;
      }
    }
    return absl::OkStatus();
  }

  absl::Status CheckAddresses() const {
    const ServerConfig& server = loaded_.config.server;
    const SecurityConfig& security = loaded_.config.security;
    struct Door {
      const char* key;
      const std::string& address;
      const security::DoorSettings* tls;  // null: speaks plain text, always
      const char* cure;
      bool dialled;  // by our own programs, of other machines too
    };
    constexpr char kGrpc[] = "set security.certificate and security.key for TLS";
    constexpr char kHttp[] = "set security.http.certificate and security.http.key for TLS";
    constexpr char kProxy[] = "put a proxy with TLS before it";
    const Door doors[] = {{"server.clients", server.clients, &security.clients, kGrpc, true},
                          {"server.workers", server.workers, &security.workers, kGrpc, true},
                          {"server.admin", server.admin, &security.admin, kGrpc, true},
                          {"server.http", server.http, &security.http, kHttp, false},
                          {"server.metrics", server.metrics, nullptr, kProxy, false}};
    std::map<int, const char*> ports;
    for (const auto& [key, address, tls, cure, dialled] : doors) {
      const auto endpoint = ParseEndpoint(address);
      if (!endpoint.ok()) return endpoint.status();
      const auto origin = origins_.find(key);
      const std::string from = origin == origins_.end() ? kDefault : origin->second;
      // Where programs dial over TLS, the address may be another machine's; who opens a door asks CheckServed().
      const bool encrypted = (tls != nullptr && tls->encrypted()) || (dialled && security.dial.encrypted());
      if (!endpoint->IsLoopback() && !encrypted && !server.plaintext_beyond_loopback) {
        return absl::InvalidArgumentError(absl::StrCat(from, ": ", key, ": other machines can reach ", address,
                                                       ", and nothing on it is encrypted; use 127.0.0.1, ", cure,
                                                       ", or set server.plaintext_beyond_loopback: true"));
      }
      if (endpoint->port == 0) continue;
      const auto [it, fresh] = ports.insert({endpoint->port, key});
      if (!fresh) {
        return absl::InvalidArgumentError(
            absl::StrCat(from, ": ", key, ": port ", endpoint->port, " is taken by ", it->second));
      }
    }
    return absl::OkStatus();
  }

  std::filesystem::path working_folder_;
  LoadedConfig loaded_;
  std::map<std::string, std::string> origins_;  // "server.clients" or "models[0].path"
  std::vector<std::string> model_places_;       // where each model was first named, for messages
};

}  // namespace

Environment ProcessEnvironment() {
  Environment environment;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string pair = *entry;
    const size_t equals = pair.find('=');
    if (equals != std::string::npos) environment[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  return environment;
}

absl::StatusOr<LoadedConfig> LoadClusterConfig(const std::string& path, const std::vector<FlagValue>& flags,
                                               const Environment& environment) {
  Loader loader;
  loader.ApplyDefaults(environment);
  if (!path.empty()) {
    if (const auto status = loader.ApplyFile(path); !status.ok()) return status;
  }
  if (const auto status = loader.ApplyEnvironment(environment); !status.ok()) return status;
  if (const auto status = loader.ApplyFlags(flags); !status.ok()) return status;
  loader.ApplyProfile();
  loader.ApplyCommonSecurity();
  if (const auto status = loader.Check(); !status.ok()) return status;
  return loader.Finish();
}

}  // namespace tandem::config
