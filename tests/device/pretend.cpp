// A simulated accelerator: memory of its own kind, computed on by the CPU, as strict about devices and dtypes as a GPU.
//
// An operation on tensors of two devices is refused (0-dimensional CPU tensors and CPU indices aside), and so is a CPU
// generator; without float64, as on Apple's GPUs, so is every float64 tensor. Operations, waits of the program for the
// device, and copies are counted.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_local_scalar_dense_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace {

using at::Tensor;
using c10::Device;
using c10::DeviceIndex;
using c10::Stream;
using std::optional;

constexpr auto kKind = c10::DeviceType::PrivateUse1;
const Device kDevice(kKind, 0);

bool has_float64 = true;
bool in_fallback = false;  // the fallback's own copies are not the program's

struct Counts {
  int64_t operations = 0, waits = 0, to_host = 0, to_device = 0;
} counts;

void check_dtype(at::ScalarType dtype) {
  TORCH_CHECK_TYPE(has_float64 || (dtype != at::kDouble && dtype != at::kComplexDouble),
                   "Cannot convert a pretend Tensor to float64 dtype as the device doesn't support float64.");
}

// ---- memory, streams, generators ----

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* data = nullptr;
    TORCH_CHECK(bytes == 0 || posix_memalign(&data, 64, bytes) == 0, "pretend: out of memory");
    return {data, data, &std::free, kDevice};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }
} memory;

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kKind; }
  Device exchangeDevice(Device) const override { return kDevice; }
  Device getDevice() const override { return kDevice; }
  void setDevice(Device) const override {}
  void uncheckedSetDevice(Device) const noexcept override {}
  Stream getStream(Device) const override { return Stream(Stream::DEFAULT, kDevice); }
  Stream getDefaultStream(Device) const override { return Stream(Stream::DEFAULT, kDevice); }
  Stream getNewStream(Device, int) const override { return Stream(Stream::DEFAULT, kDevice); }
  Stream exchangeStream(Stream) const override { return Stream(Stream::DEFAULT, kDevice); }
  DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void** event, const Stream&, const DeviceIndex, const c10::EventFlag) const override {
    static int recorded;
    *event = &recorded;
  }
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const DeviceIndex) const noexcept override {}
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const DeviceIndex) const override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  at::Generator getNewGenerator(DeviceIndex) const override { return at::detail::createCPUGenerator(); }
  const at::Generator& getDefaultGenerator(DeviceIndex) const override {
    return at::detail::getDefaultCPUGenerator();
  }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(DeviceIndex) const override {}
  c10::Allocator* getPinnedMemoryAllocator() const override { return at::getCPUAllocator(); }
  bool isPinnedPtr(const void*) const override { return false; }
  Device getDeviceFromPtr(void*) const override { return kDevice; }
};

// ---- tensors ----

Tensor on_cpu(const Tensor& x) {  // a view of the device's memory
  if (x.device().is_cpu()) return x;
  void* data = x.numel() ? const_cast<void*>(x.const_data_ptr()) : nullptr;
  return at::from_blob(data, x.sizes(), x.strides(), at::TensorOptions().dtype(x.scalar_type()).device(at::kCPU));
}

Tensor empty(c10::IntArrayRef size, optional<at::ScalarType> dtype, optional<at::Layout>, optional<Device>,
             optional<bool>, optional<at::MemoryFormat> format) {
  const auto type = c10::dtype_or_default(dtype);
  check_dtype(type);
  return at::detail::empty_generic(size, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), type, format);
}

Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, optional<at::ScalarType> dtype,
                     optional<at::Layout>, optional<Device>, optional<bool>) {
  const auto type = c10::dtype_or_default(dtype);
  check_dtype(type);
  const c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);
  return at::detail::empty_strided_generic(size, stride, &memory, keys, type);
}

const Tensor& resize(const Tensor& x, c10::SymIntArrayRef size, optional<at::MemoryFormat> format) {
  return at::native::resize_(x, C10_AS_INTARRAYREF_SLOW(size), format);
}

Tensor& set_storage(Tensor& x, at::Storage storage) {
  const auto items = static_cast<int64_t>(storage.nbytes() / x.dtype().itemsize());
  return at::native::set_storage_cpu_(x, std::move(storage), 0, {items}, {});
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  if (!in_fallback) {
    if (from.device().is_cpu()) {
      ++counts.to_device;
    } else if (to.device().is_cpu()) {
      ++counts.to_host;
      ++counts.waits;
    } else {
      ++counts.operations;
    }
  }
  on_cpu(to).copy_(on_cpu(from));
  return to;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  if (to.sizes() != from.sizes()) to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar item(const Tensor& x) {
  ++counts.waits;
  return at::native::_local_scalar_dense_cpu(on_cpu(x));
}

// ---- every other operation: checked, counted, computed on the CPU ----

void check(const c10::OperatorHandle& op, const Tensor& x) {
  if (!x.defined()) return;
  TORCH_CHECK(!x.device().is_cpu() || x.dim() == 0, "Expected all tensors to be on the same device, but found at least "
              "two devices, pretend:0 and cpu! (", op.schema().operator_name(), ", CPU tensor of shape ", x.sizes(),
              ")");
  if (!x.device().is_cpu()) check_dtype(x.scalar_type());
}

void compute(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  static const std::set<std::string> kSized = {"aten::nonzero",            "aten::masked_select", "aten::_unique2",
                                               "aten::unique_consecutive", "aten::equal",         "aten::bincount"};
  const std::string& name = op.schema().name();
  bool waits = kSized.count(name) > 0;
  for (const auto& value : torch::jit::last(stack, op.schema().arguments().size())) {
    if (value.isTensor()) {
      check(op, value.toTensor());
    } else if (value.isTensorList()) {
      for (const auto& x : value.toTensorList()) check(op, x);
    } else if (value.isOptionalTensorList()) {  // indices: they may be on the CPU
      for (const optional<Tensor>& x : value.toOptionalTensorList()) {
        // an index from the CPU has to be copied; how many places a mask selects has to be known: index asks nonzero
        const bool is_mask = x && x->defined() && x->scalar_type() == at::kBool && name != "aten::index";
        waits |= is_mask || (x && x->defined() && x->device().is_cpu());
      }
    } else if (value.isGenerator()) {
      TORCH_CHECK(false, "Expected a 'pretend' device type for generator but found 'cpu' (", name, ")");
    }
  }
  ++counts.operations;
  counts.waits += waits;
  const bool outer = std::exchange(in_fallback, true);
  try {
    at::native::cpu_fallback(op, stack);
  } catch (...) {
    in_fallback = outer;
    throw;
  }
  in_fallback = outer;
}

}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&compute>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", at::native::view);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("unfold", at::native::unfold);
  m.impl("view_as_real", at::native::view_as_real);
  m.impl("resize_", resize);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", item);
  m.impl("set_", at::native::set_cpu_);
  m.impl("set_.source_Storage", set_storage);
  m.impl("set_.source_Storage_storage_offset", at::native::set_storage_cpu_);
}

TORCH_LIBRARY(pretend, m) {
  m.def("start", [] {
    static Hooks hooks;
    c10::SetAllocator(kKind, &memory);
    at::RegisterPrivateUse1HooksInterface(&hooks);
  });
  m.def("allow_float64", [](bool allowed) { has_float64 = allowed; });
  m.def("counts", [] {
    return std::vector<int64_t>{counts.operations, counts.waits, counts.to_host, counts.to_device};
  });
}
