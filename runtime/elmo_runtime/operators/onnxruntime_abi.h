// The part of ONNX Runtime's C interface that an operator needs, declared anew: its wheels bring no
// headers. The interface only ever grows at its end, so that a function keeps its place in the
// table and a structure the order of its first fields.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ort {

struct Status;
struct SessionOptions;
struct CustomOpDomain;
struct KernelInfo;
struct KernelContext;
struct Value;
struct TensorInfo;

enum ElementType : int32_t { kFloat32 = 1, kInt8 = 3, kInt64 = 7 };
enum ErrorCode : int32_t { kFail = 1, kInvalidArgument = 2, kNotImplemented = 9 };
constexpr int kRequired = 0;       // OrtCustomOpInputOutputCharacteristic
constexpr int kDefaultMemory = 0;  // OrtMemType

constexpr uint32_t kApiVersion = 17;  // the first one with KernelContext_ParallelFor
constexpr uint32_t kOperatorVersion = 16;  // of CustomOp, which has the fields up to ComputeV2

using Function = void (*)();

struct Api {
  Function functions[275];
};

struct ApiBase {
  const Api* (*get_api)(uint32_t version);
  const char* (*get_version)();
};

// OrtCustomOp up to version 16.
struct CustomOp {
  uint32_t version = kOperatorVersion;
  void* (*create_kernel)(const CustomOp*, const Api*, const KernelInfo*) = nullptr;
  const char* (*get_name)(const CustomOp*) = nullptr;
  const char* (*get_execution_provider)(const CustomOp*) = nullptr;
  ElementType (*get_input_type)(const CustomOp*, size_t) = nullptr;
  size_t (*get_input_count)(const CustomOp*) = nullptr;
  ElementType (*get_output_type)(const CustomOp*, size_t) = nullptr;
  size_t (*get_output_count)(const CustomOp*) = nullptr;
  void (*compute)(void*, KernelContext*) = nullptr;
  void (*destroy_kernel)(void*) = nullptr;
  int (*get_input_characteristic)(const CustomOp*, size_t) = nullptr;
  int (*get_output_characteristic)(const CustomOp*, size_t) = nullptr;
  int (*get_input_memory)(const CustomOp*, size_t) = nullptr;
  int (*get_variadic_input_minimum)(const CustomOp*) = nullptr;
  int (*get_variadic_input_homogeneity)(const CustomOp*) = nullptr;
  int (*get_variadic_output_minimum)(const CustomOp*) = nullptr;
  int (*get_variadic_output_homogeneity)(const CustomOp*) = nullptr;
  Status* (*create_kernel_v2)(const CustomOp*, const Api*, const KernelInfo*, void**) = nullptr;
  Status* (*compute_v2)(void*, KernelContext*) = nullptr;
};

// A status of ONNX Runtime on its way out of nested calls.
struct Failure {
  Status* status;
};

inline void check(Status* status) {
  if (status) throw Failure{status};
}

// A function of the table by its place and its type.
template <class Result, class... Parameters>
Result call(const Api& api, int place, Parameters... parameters) {
  return reinterpret_cast<Result (*)(Parameters...)>(api.functions[place])(parameters...);
}

inline Status* create_status(const Api& api, ErrorCode code, const char* message) {
  return call<Status*>(api, 0, code, message);
}

inline Status* create_domain(const Api& api, const char* name, const CustomOp* const* operators,
                             size_t count, CustomOpDomain** domain) {
  if (auto* failed = call<Status*>(api, 26, name, domain)) return failed;
  for (size_t i = 0; i < count; ++i)
    if (auto* failed = call<Status*>(api, 27, *domain, operators[i])) return failed;
  return nullptr;
}

inline Status* add_domain(const Api& api, SessionOptions* options, CustomOpDomain* domain) {
  return call<Status*>(api, 28, options, domain);
}

inline float attribute(const Api& api, const KernelInfo* info, const char* name) {
  float value = 0;
  check(call<Status*>(api, 85, info, name, &value));
  return value;
}

// The elements of a tensor, their count, and its shape if it has at most two axes.
struct Tensor {
  int64_t shape[2] = {1, 1};
  size_t rank = 0;
  int64_t count = 0;
  void* data = nullptr;

  Tensor(const Api& api, const Value* value) {
    TensorInfo* info = nullptr;
    check(call<Status*>(api, 65, value, &info));
    Status* failed = call<Status*>(api, 61, static_cast<const TensorInfo*>(info), &rank);
    if (!failed && rank <= 2)
      failed = call<Status*>(api, 62, static_cast<const TensorInfo*>(info), &shape[0], rank);
    size_t elements = 0;
    if (!failed) failed = call<Status*>(api, 64, static_cast<const TensorInfo*>(info), &elements);
    count = static_cast<int64_t>(elements);
    call<void>(api, 99, info);
    check(failed);
    check(call<Status*>(api, 51, value, &data));
  }

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

inline Tensor input(const Api& api, const KernelContext* context, size_t index) {
  const Value* value = nullptr;
  check(call<Status*>(api, 90, context, index, &value));
  return Tensor(api, value);
}

inline Tensor output(const Api& api, KernelContext* context, size_t index, int64_t rows,
                     int64_t columns) {
  const int64_t shape[2] = {rows, columns};
  Value* value = nullptr;
  check(call<Status*>(api, 91, context, index, &shape[0], size_t{2}, &value));
  return Tensor(api, value);
}

// Calls body(0) ... body(count - 1) on the threads of the session.
template <class Body>
void parallel_for(const Api& api, const KernelContext* context, size_t count, Body& body) {
  void (*one)(void*, size_t) = [](void* data, size_t i) { (*static_cast<Body*>(data))(i); };
  check(call<Status*>(api, 274, context, one, count, size_t{0}, static_cast<void*>(&body)));
}

}  // namespace ort
