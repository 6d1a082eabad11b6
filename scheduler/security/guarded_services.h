// The services behind an Authorizer: each method asks it first and then hands on. Where there are no roles, the
// services stand in the doors themselves, and nothing of this costs a call.
//
// A method that is not listed here answers UNIMPLEMENTED, so a new one is closed until somebody opens it.
#ifndef TANDEM_SCHEDULER_SECURITY_GUARDED_SERVICES_H_
#define TANDEM_SCHEDULER_SECURITY_GUARDED_SERVICES_H_

#include <memory>

#include "scheduler/admin_service.h"
#include "scheduler/inference_service.h"
#include "scheduler/security/authorizer.h"
#include "tandem/v1/admin.grpc.pb.h"
#include "tandem/v1/inference.grpc.pb.h"
#include "tandem/v1/worker.grpc.pb.h"

namespace tandem::scheduler {

// Both outlive what is returned.
std::unique_ptr<grpc::Service> Guarded(InferenceService* inner, Authorizer* authorizer);
std::unique_ptr<grpc::Service> Guarded(v1::WorkerService::CallbackService* inner, Authorizer* authorizer);
std::unique_ptr<grpc::Service> Guarded(AdminService* inner, Authorizer* authorizer);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_SECURITY_GUARDED_SERVICES_H_
