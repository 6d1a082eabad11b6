#include "placement/files/xml_tree.h"

#include <expat.h>

#include "absl/strings/str_cat.h"
#include "placement/files/read_options.h"

namespace tandem::placement {
namespace {

struct Building {
  XML_Parser parser = nullptr;
  int most_depth = 0;
  std::unique_ptr<XmlElement> root;
  std::vector<XmlElement*> open;
  std::string refused;  // why, when we and not expat ended it
  int refused_line = 0;

  int Line() const { return static_cast<int>(XML_GetCurrentLineNumber(parser)); }
  void Refuse(std::string why) {
    if (!refused.empty()) return;
    refused = std::move(why);
    refused_line = Line();
    XML_StopParser(parser, XML_FALSE);
  }
};

void XMLCALL OnStart(void* data, const XML_Char* name, const XML_Char** attributes) {
  auto& building = *static_cast<Building*>(data);
  if (static_cast<int>(building.open.size()) >= building.most_depth) {
    building.Refuse(absl::StrCat("element ", Quoted(name), ": more than ", building.most_depth, " levels deep"));
    return;
  }
  auto element = std::make_unique<XmlElement>();
  element->name = name;
  element->line = building.Line();
  for (; attributes[0] != nullptr; attributes += 2) element->attributes.emplace_back(attributes[0], attributes[1]);
  XmlElement* const raw = element.get();
  if (building.open.empty()) {
    building.root = std::move(element);
  } else {
    building.open.back()->children.push_back(std::move(element));
  }
  building.open.push_back(raw);
}

void XMLCALL OnEnd(void* data, const XML_Char*) { static_cast<Building*>(data)->open.pop_back(); }

void XMLCALL OnDoctype(void* data, const XML_Char*, const XML_Char*, const XML_Char*, int) {
  static_cast<Building*>(data)->Refuse("a document type; topology files have none, remove <!DOCTYPE ...>");
}

}  // namespace

absl::StatusOr<std::unique_ptr<XmlElement>> ParseXml(absl::string_view text, absl::string_view file, size_t most_bytes,
                                                     int most_depth) {
  if (text.size() > most_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": ", text.size(), " bytes; a topology has at most ", most_bytes));
  }
  const std::unique_ptr<XML_ParserStruct, decltype(&XML_ParserFree)> parser(XML_ParserCreate(nullptr), &XML_ParserFree);
  if (parser == nullptr) return absl::ResourceExhaustedError(absl::StrCat(file, ": no memory for an XML parser"));
  Building building;
  building.parser = parser.get();
  building.most_depth = most_depth;
  XML_SetUserData(parser.get(), &building);
  XML_SetElementHandler(parser.get(), OnStart, OnEnd);
  XML_SetStartDoctypeDeclHandler(parser.get(), OnDoctype);
  const XML_Status status = XML_Parse(parser.get(), text.data(), static_cast<int>(text.size()), XML_TRUE);
  if (!building.refused.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(file, ":", building.refused_line, ": ", building.refused));
  }
  if (status != XML_STATUS_OK || building.root == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ":", building.Line(), ": not XML: ", XML_ErrorString(XML_GetErrorCode(parser.get()))));
  }
  return std::move(building.root);
}

}  // namespace tandem::placement
