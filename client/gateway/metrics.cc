#include "client/gateway/metrics.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace tandem::gateway {
namespace {

// vLLM's for the time to the first token; they reach from a millisecond to an hour.
constexpr std::array<double, 22> kBounds = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                            1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};

void AppendHeader(absl::string_view name, absl::string_view type, absl::string_view help, std::string* out) {
  absl::StrAppend(out, "# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
}

void AppendValue(absl::string_view name, absl::string_view type, absl::string_view help, int64_t value,
                 std::string* out) {
  AppendHeader(name, type, help, out);
  absl::StrAppend(out, name, " ", value, "\n");
}

}  // namespace

void Metrics::Histogram::Add(absl::Duration value) {
  const double seconds = absl::ToDoubleSeconds(value);
  ++counts[std::lower_bound(kBounds.begin(), kBounds.end(), seconds) - kBounds.begin()];
  sum += seconds;
}

Metrics::Account& Metrics::AccountOf(const std::string& tenant) {
  const auto known = tenants_.find(tenant);
  if (known != tenants_.end()) return known->second;
  return tenants_[tenants_.size() < kMostTenants ? tenant : "other"];
}

void Metrics::OnRequest(absl::string_view route, const std::string& tenant, int status, absl::Duration took) {
  absl::MutexLock lock(&mu_);
  if (!tenant.empty()) ++AccountOf(tenant).requests[status];
  ++requests_[{std::string(route), status}];
  durations_[std::string(route)].Add(took);
}
void Metrics::OnFirstToken(absl::string_view route, absl::Duration after) {
  absl::MutexLock lock(&mu_);
  first_tokens_[std::string(route)].Add(after);
}
void Metrics::OnClientGone(absl::string_view route) {
  absl::MutexLock lock(&mu_);
  ++gone_[std::string(route)];
}
void Metrics::OnStreamFailed(absl::string_view route, absl::string_view reason) {
  absl::MutexLock lock(&mu_);
  ++failed_streams_[{std::string(route), std::string(reason.empty() ? "internal" : reason)}];
}
void Metrics::OnHandshakeFailed(absl::string_view reason) {
  absl::MutexLock lock(&mu_);
  ++failed_handshakes_[std::string(reason)];
}
void Metrics::OnTokens(const std::string& tenant, uint64_t prompt, uint64_t completion) {
  absl::MutexLock lock(&mu_);
  if (!tenant.empty()) {
    Account& account = AccountOf(tenant);
    account.prompt_tokens += prompt;
    account.completion_tokens += completion;
  }
  prompt_tokens_ += prompt;
  completion_tokens_ += completion;
}

void Metrics::AppendHistogram(absl::string_view name, const std::map<std::string, Histogram>& by_route,
                              std::string* out) {
  for (const auto& [route, histogram] : by_route) {
    uint64_t count = 0;
    for (size_t i = 0; i < histogram.counts.size(); ++i) {
      count += histogram.counts[i];
      absl::StrAppend(out, name, "_bucket{route=\"", route, "\",le=\"");
      absl::StrAppend(out, i < kBounds.size() ? absl::StrCat(kBounds[i]) : "+Inf", "\"} ", count, "\n");
    }
    absl::StrAppend(out, name, "_sum{route=\"", route, "\"} ", histogram.sum, "\n");
    absl::StrAppend(out, name, "_count{route=\"", route, "\"} ", count, "\n");
  }
}

void Metrics::AppendTenants(std::string* out) const {
  if (tenants_.empty()) return;
  AppendHeader("tandem_http_tenant_requests_total", "counter", "Requests by tenant and status.", out);
  for (const auto& [name, account] : tenants_) {
    for (const auto& [status, count] : account.requests) {
      absl::StrAppend(out, "tandem_http_tenant_requests_total{tenant=\"", name, "\",code=\"", status, "\"} ", count,
                      "\n");
    }
  }
  AppendHeader("tandem_http_tenant_tokens_total", "counter", "Tokens of prompts and of answers by tenant.", out);
  for (const auto& [name, account] : tenants_) {
    for (const auto& [kind, count] :
         {std::pair("prompt", account.prompt_tokens), std::pair("generation", account.completion_tokens)}) {
      absl::StrAppend(out, "tandem_http_tenant_tokens_total{tenant=\"", name, "\",kind=\"", kind, "\"} ", count, "\n");
    }
  }
}

std::string Metrics::Text() const {
  std::string out;
  AppendHeader("tandem_build_info", "gauge", "Which version runs.", &out);
  absl::StrAppend(&out, "tandem_build_info{program=\"tandem-gateway\",version=\"", version_, "\"} 1\n");
  AppendValue("tandem_http_connections", "gauge", "Open connections.", connections, &out);
  AppendValue("tandem_http_requests_running", "gauge", "Requests that are being answered.", requests_running, &out);
  AppendValue("tandem_http_streams_open", "gauge", "Answers that are being streamed.", streams_open, &out);
  if (certificate_ends) {
    AppendValue("tandem_http_certificate_expiry_timestamp_seconds", "gauge", "When the certificate ends.",
                absl::ToUnixSeconds(certificate_ends()), &out);
  }
  absl::MutexLock lock(&mu_);
  if (certificate_ends) {
    AppendHeader("tandem_http_handshakes_failed_total", "counter", "TLS handshakes that came to nothing.", &out);
    for (const auto& [reason, count] : failed_handshakes_) {
      absl::StrAppend(&out, "tandem_http_handshakes_failed_total{reason=\"", reason, "\"} ", count, "\n");
    }
  }
  AppendHeader("tandem_http_requests_total", "counter", "Requests by route and status.", &out);
  for (const auto& [key, count] : requests_) {
    absl::StrAppend(&out, "tandem_http_requests_total{route=\"", key.first, "\",code=\"", key.second, "\"} ", count,
                    "\n");
  }
  AppendHeader("tandem_http_clients_gone_total", "counter", "Clients that left before their answer was whole.", &out);
  for (const auto& [route, count] : gone_) {
    absl::StrAppend(&out, "tandem_http_clients_gone_total{route=\"", route, "\"} ", count, "\n");
  }
  AppendHeader("tandem_http_streams_failed_total", "counter",
               "Streams that ended with an error after their 200 had been sent.", &out);
  for (const auto& [key, count] : failed_streams_) {
    absl::StrAppend(&out, "tandem_http_streams_failed_total{route=\"", key.first, "\",reason=\"", key.second, "\"} ",
                    count, "\n");
  }
  AppendValue("tandem_http_prompt_tokens_total", "counter", "Tokens of prompts that were answered.",
              static_cast<int64_t>(prompt_tokens_), &out);
  AppendValue("tandem_http_generation_tokens_total", "counter", "Tokens of answers.",
              static_cast<int64_t>(completion_tokens_), &out);
  AppendTenants(&out);
  AppendHeader("tandem_http_request_duration_seconds", "histogram", "From the whole request to the whole answer.",
               &out);
  AppendHistogram("tandem_http_request_duration_seconds", durations_, &out);
  AppendHeader("tandem_http_time_to_first_token_seconds", "histogram", "From the whole request to its first text.",
               &out);
  AppendHistogram("tandem_http_time_to_first_token_seconds", first_tokens_, &out);
  return out;
}

}  // namespace tandem::gateway
