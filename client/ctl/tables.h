// The admin's resources as tables; `wide` adds the columns that are seldom asked for.
#ifndef TANDEM_CLIENT_CTL_TABLES_H_
#define TANDEM_CLIENT_CTL_TABLES_H_

#include <string>

#include "absl/strings/string_view.h"
#include "client/ctl/print.h"
#include "tandem/v1/admin.pb.h"

namespace tandem::client::ctl {

// "box/0" for nodes/box/devices/0, "7" for groups/7: what the commands take.
std::string ShortName(absl::string_view resource);

template <typename Resource>
using List = google::protobuf::RepeatedPtrField<Resource>;

Table ToTable(const List<v1::Device>& devices, bool wide);
Table ToTable(const List<v1::Group>& groups, bool wide);
Table ToTable(const List<v1::Model>& models, bool wide);
Table ToTable(const List<v1::Node>& nodes, bool wide);
Table ToTable(const List<v1::Request>& requests, bool wide);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_TABLES_H_
