// tandemctl get and describe: resources as tables, JSON, YAML or bare names.
#include <iostream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/ctl/names.h"
#include "client/ctl/tables.h"
#include "client/ctl/verbs.h"

namespace tandem::client::ctl {
namespace {

struct GetFlags {
  std::string kind, name, format = "table";
  bool watch = false, all = false;
};

template <typename Resource>
std::string Names(const List<Resource>& resources) {
  std::string names;
  for (const Resource& resource : resources) absl::StrAppend(&names, resource.name(), "\n");
  return names;
}

// `whole` is what -o json shows: the list's answer, or the one resource that was asked for.
template <typename Resource>
std::string Show(const List<Resource>& resources, const google::protobuf::Message& whole, const std::string& format) {
  if (format == "json") return ToJson(whole);
  if (format == "yaml") return ToYaml(whole);
  if (format == "name") return Names(resources);
  return ToTable(resources, format == "wide").ToString();
}

template <typename Resource>
absl::StatusOr<std::string> ShowOne(const absl::StatusOr<Resource>& resource, const std::string& format) {
  if (!resource.ok()) return resource.status();
  List<Resource> list;
  *list.Add() = *resource;
  return Show(list, *resource, format);
}

absl::StatusOr<std::string> FetchOne(AdminClient& admin, const ResourceName& name, const std::string& format) {
  switch (name.kind) {
    case Kind::kDevice:
      return ShowOne(admin.GetDevice(name.name), format);
    case Kind::kGroup:
      return ShowOne(admin.GetGroup(name.name), format);
    case Kind::kModel:
      return ShowOne(admin.GetModel(name.name), format);
    case Kind::kRequest:
      return ShowOne(admin.GetRequest(name.name), format);
    case Kind::kNode:
      break;
  }
  const auto nodes = admin.ListNodes();
  if (!nodes.ok()) return nodes.status();
  for (const v1::Node& node : nodes->nodes()) {
    if (node.name() == name.name) return ShowOne<v1::Node>(node, format);
  }
  return absl::NotFoundError(absl::StrCat("no node ", ShortName(name.name)));
}

absl::StatusOr<std::string> FetchAll(AdminClient& admin, Kind kind, bool all, const std::string& format) {
  const auto show = [&format](const auto& answer, auto field) -> absl::StatusOr<std::string> {
    if (!answer.ok()) return answer.status();
    return Show(field(*answer), *answer, format);
  };
  switch (kind) {
    case Kind::kDevice:
      return show(admin.ListDevices(), [](const auto& answer) { return answer.devices(); });
    case Kind::kGroup:
      return show(admin.ListGroups(all), [](const auto& answer) { return answer.groups(); });
    case Kind::kModel:
      return show(admin.ListModels(), [](const auto& answer) { return answer.models(); });
    case Kind::kRequest:
      return show(admin.ListRequests(all), [](const auto& answer) { return answer.requests(); });
    case Kind::kNode:
      return show(admin.ListNodes(), [](const auto& answer) { return answer.nodes(); });
  }
  return absl::InternalError("a kind without a list");
}

absl::Status Get(const Context& context, const GetFlags& flags) {
  // "get group/7" is "get group 7".
  const auto kind = ParseKind(flags.kind.substr(0, flags.kind.find('/')));
  if (!kind.ok()) return kind.status();
  const size_t slash = flags.kind.find('/');
  const std::string given = slash == std::string::npos ? flags.name : flags.kind;
  absl::StatusOr<ResourceName> name = ResourceName{};
  if (!given.empty()) name = ParseName(given, *kind);
  if (!name.ok()) return name.status();

  const auto admin = context.ConnectAdmin();
  if (!admin.ok()) return admin.status();
  std::string shown;
  do {
    const auto text =
        given.empty() ? FetchAll(**admin, *kind, flags.all, flags.format) : FetchOne(**admin, *name, flags.format);
    if (!text.ok()) return text.status();
    if (*text != shown) std::cout << (shown.empty() || flags.format == "json" ? "" : "\n") << *text << std::flush;
    shown = *text;
    if (flags.watch) absl::SleepFor(absl::Seconds(1));
  } while (flags.watch && std::cout.good());
  return absl::OkStatus();
}

// One resource with every field, and the scheduler's reasons beside it where it has some.
absl::Status Describe(const Context& context, const std::string& kind_word, const std::string& name) {
  const auto kind = ParseKind(kind_word.substr(0, kind_word.find('/')));
  if (!kind.ok()) return kind.status();
  const auto resource = ParseName(name.empty() ? kind_word : name, *kind);
  if (!resource.ok()) return resource.status();
  if (name.empty() && kind_word.find('/') == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("describe ", kind_word, " needs a NAME"));
  }
  const auto admin = context.ConnectAdmin();
  if (!admin.ok()) return admin.status();
  const auto text = FetchOne(**admin, *resource, "yaml");
  if (!text.ok()) return text.status();
  std::cout << *text << std::flush;
  return absl::OkStatus();
}

}  // namespace

void AddGet(CLI::App& app, Context& context) {
  auto flags = std::make_shared<GetFlags>();
  CLI::App* get = app.add_subcommand("get", "List resources: devices (gpus), groups, models, nodes, requests");
  get->add_option("KIND", flags->kind, "devices, gpus, groups, models, nodes or requests")->required();
  get->add_option("NAME", flags->name, "Only this one");
  get->add_option("-o,--output", flags->format, "table, wide, json, yaml or name")
      ->check(CLI::IsMember({"table", "wide", "json", "yaml", "name"}))
      ->capture_default_str();
  get->add_flag("-a,--all", flags->all, "Dissolved groups and ended requests too, as far as they are remembered");
  get->add_flag("-w,--watch", flags->watch, "Go on, and print again what has changed");
  get->callback([&context, flags] { context.exit_code = Report(Get(context, *flags)); });
}

void AddDescribe(CLI::App& app, Context& context) {
  auto kind = std::make_shared<std::string>();
  auto name = std::make_shared<std::string>();
  CLI::App* describe =
      app.add_subcommand("describe", "Show everything about one device, group, model, node or request");
  describe->add_option("KIND", *kind, "device, gpu, group, model, node or request")->required();
  describe->add_option("NAME", *name, "Its name");
  describe->callback([&context, kind, name] { context.exit_code = Report(Describe(context, *kind, *name)); });
}

}  // namespace tandem::client::ctl
