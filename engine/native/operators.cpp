// Three operators for ONNX Runtime's CPU, in the domain diamond.cpu: Conv3x3, NormAffine and Attention. See docs/native.md.
//
// engine/native/rewrite.py puts them in place of what a graph has from the standard. Everything here is float32, batch 1.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "onnxruntime/onnxruntime_c_api.h"
#include "kernels.hpp"

namespace {

using diamond::Around;
using diamond::Kernels;
using diamond::Shape;

constexpr uint32_t API = 17;  // the oldest of ONNX Runtime that has what is used here: 1.17
constexpr int64_t FEW_BLOCKS = 8;  // maps of fewer have one pass for the input and one for the products
constexpr int64_t GROUPS_AN_ITEM = 4;

// Throws ONNX Runtime's status; `guarded` hands it back.
struct Failed {
  OrtStatus* status;
};

class Ort {
 public:
  explicit Ort(const OrtApi* api) : api_(api) {}
  const OrtApi* operator->() const { return api_; }
  void check(OrtStatus* status) const {
    if (status != nullptr) throw Failed{status};
  }
  void require(bool holds, const char* what) const {
    if (!holds) throw Failed{api_->CreateStatus(ORT_INVALID_ARGUMENT, what)};
  }
  std::vector<int64_t> shape(const OrtValue* value) const {
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check(api_->GetTensorTypeAndShape(value, &info));
    size_t rank = 0;
    OrtStatus* status = api_->GetDimensionsCount(info, &rank);
    std::vector<int64_t> dims(rank);
    if (status == nullptr) status = api_->GetDimensions(info, dims.data(), rank);
    api_->ReleaseTensorTypeAndShapeInfo(info);
    check(status);
    return dims;
  }
  float* data(const OrtValue* value) const {
    void* data = nullptr;
    check(api_->GetTensorMutableData(const_cast<OrtValue*>(value), &data));
    return static_cast<float*>(data);
  }

 private:
  const OrtApi* api_;
};

template <typename Work> OrtStatus* guarded(const OrtApi* api, Work work) {
  try {
    work();
    return nullptr;
  } catch (const Failed& failed) {
    return failed.status;
  } catch (const std::bad_alloc&) {
    return api->CreateStatus(ORT_RUNTIME_EXCEPTION, "diamond.cpu: out of memory");
  }
}

int64_t elements(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t side : shape) count *= side;
  return count;
}

// Memory that a thread keeps for its next call.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }
  float* floats(int64_t count) {
    if (count > count_) {
      std::free(data_);
      count_ = 0;
      const size_t bytes = (static_cast<size_t>(count) * sizeof(float) + 63) / 64 * 64;
      data_ = static_cast<float*>(std::aligned_alloc(64, bytes));
      if (data_ == nullptr) throw std::bad_alloc();
      count_ = count;
    }
    return data_;
  }

 private:
  float* data_ = nullptr;
  int64_t count_ = 0;
};
thread_local Buffer transformed_tiles, products;

// Runs `work(0)` to `work(items - 1)` on the session's threads.
template <typename Work> void parallel(const Ort& ort, const OrtKernelContext* context, int64_t items, Work work) {
  struct Shared {
    Work& work;
    std::atomic<bool> failed;
  } shared{work, {false}};
  const auto call = [](void* data, size_t index) {
    auto* all = static_cast<Shared*>(data);
    try {
      all->work(static_cast<int64_t>(index));
    } catch (const std::bad_alloc&) {
      all->failed = true;
    }
  };
  ort.check(ort->KernelContext_ParallelFor(context, call, static_cast<size_t>(items), 0, &shared));
  if (shared.failed) throw std::bad_alloc();
}

// y = conv(x or silu(x * gain + shift), weights) + bias + residual
class Conv3x3 {
 public:
  enum Input { X, WEIGHTS, BIAS, RESIDUAL, GAIN, SHIFT, INPUTS };
  static constexpr size_t outputs = 1;
  static constexpr const char* name = "Conv3x3";
  static bool is_optional(size_t input) { return input > WEIGHTS; }

  Conv3x3(const OrtApi* api, const OrtKernelInfo* info) : ort_(api), kernels_(diamond::kernels()) {
    ort_.require(kernels_ != nullptr, "diamond.cpu.Conv3x3: this processor has no kernels");
    int constant = 0;
    const OrtValue* weights = nullptr;
    ort_.check(api->KernelInfoGetConstantInput_tensor(info, WEIGHTS, &constant, &weights));
    ort_.require(constant != 0 && weights != nullptr, "diamond.cpu.Conv3x3: weights that are no constant");
    const std::vector<int64_t> sides = ort_.shape(weights);
    ort_.require(sides.size() == 4 && sides[2] == 3 && sides[3] == 3, "diamond.cpu.Conv3x3: weights not (K, C, 3, 3)");
    layer_ = Shape{sides[1], sides[0], 0, 0};
    float* packed = packed_.floats(kernels_->packed_floats(layer_));
    kernels_->pack(layer_, ort_.data(weights), packed);
    packed_floats_ = packed;
  }

  void compute(OrtKernelContext* context) {
    size_t given = 0;
    ort_.check(ort_->KernelContext_GetInputCount(context, &given));
    const OrtValue* inputs[INPUTS] = {};
    for (size_t i = 0; i < given; i++) ort_.check(ort_->KernelContext_GetInput(context, i, &inputs[i]));
    const std::vector<int64_t> sides = ort_.shape(inputs[X]);
    ort_.require(sides.size() == 4 && sides[0] == 1 && sides[1] == layer_.channels_in,
                 "diamond.cpu.Conv3x3: an input that is not (1, C, H, W)");
    const Shape s{layer_.channels_in, layer_.channels_out, sides[2], sides[3]};
    const std::vector<int64_t> out{1, s.channels_out, s.height, s.width};
    const auto part = [&](Input input, int64_t count) -> const float* {
      if (inputs[input] == nullptr) return nullptr;
      ort_.require(elements(ort_.shape(inputs[input])) == count, "diamond.cpu.Conv3x3: an input of another size");
      return ort_.data(inputs[input]);
    };
    ort_.require(inputs[RESIDUAL] == nullptr || ort_.shape(inputs[RESIDUAL]) == out,
                 "diamond.cpu.Conv3x3: a residual of another shape than the output");
    const Around around{part(BIAS, s.channels_out), part(RESIDUAL, elements(out)), part(GAIN, s.channels_in),
                        part(SHIFT, s.channels_in)};
    ort_.require((around.gain == nullptr) == (around.shift == nullptr), "diamond.cpu.Conv3x3: gain without shift");
    OrtValue* output = nullptr;
    ort_.check(ort_->KernelContext_GetOutput(context, 0, out.data(), out.size(), &output));
    run(context, s, around, ort_.data(inputs[X]), ort_.data(output));
  }

 private:
  void run(const OrtKernelContext* context, const Shape& s, const Around& around, const float* x, float* y) const {
    const Kernels& k = *kernels_;
    const int64_t blocks = (s.tiles() + k.block_tiles - 1) / k.block_tiles;
    const int64_t groups = (s.channels_out + k.group_channels - 1) / k.group_channels;
    if (blocks >= FEW_BLOCKS) {
      parallel(ort_, context, blocks, [&](int64_t block) {
        float* tiles = transformed_tiles.floats(k.block_floats(s));
        k.transform(s, around, x, block, 0, s.channels_in, tiles);
        k.multiply(s, around, packed_floats_, tiles, products.floats(k.scratch_floats()), block, 0, groups, y);
      });
      return;
    }
    float* tiles = transformed_tiles.floats(blocks * k.block_floats(s));
    const int64_t parts = std::min<int64_t>(8, s.channels_in);
    parallel(ort_, context, blocks * parts, [&](int64_t item) {
      const int64_t block = item / parts, part = item % parts;
      k.transform(s, around, x, block, part * s.channels_in / parts, (part + 1) * s.channels_in / parts,
                  tiles + block * k.block_floats(s));
    });
    const int64_t shares = (groups + GROUPS_AN_ITEM - 1) / GROUPS_AN_ITEM;
    parallel(ort_, context, blocks * shares, [&](int64_t item) {
      const int64_t block = item / shares, first = item % shares * GROUPS_AN_ITEM;
      k.multiply(s, around, packed_floats_, tiles + block * k.block_floats(s), products.floats(k.scratch_floats()),
                 block, first, std::min(groups, first + GROUPS_AN_ITEM), y);
    });
  }

  Ort ort_;
  const Kernels* kernels_;
  Shape layer_{};
  Buffer packed_;
  const float* packed_floats_ = nullptr;
};

// Group norm with its modulation, as one factor and one addend a channel: y = x * scale + offset.
class NormAffine {
 public:
  enum Input { X, GAIN, SHIFT, INPUTS };
  static constexpr size_t outputs = 2;
  static constexpr const char* name = "NormAffine";
  static bool is_optional(size_t) { return false; }

  NormAffine(const OrtApi* api, const OrtKernelInfo* info) : ort_(api), kernels_(diamond::kernels()) {
    ort_.require(kernels_ != nullptr, "diamond.cpu.NormAffine: this processor has no kernels");
    ort_.check(api->KernelInfoGetAttribute_int64(info, "groups", &groups_));
    ort_.check(api->KernelInfoGetAttribute_float(info, "epsilon", &epsilon_));
    ort_.require(groups_ > 0, "diamond.cpu.NormAffine: no groups");
  }

  void compute(OrtKernelContext* context) {
    const OrtValue* inputs[INPUTS] = {};
    for (size_t i = 0; i < INPUTS; i++) ort_.check(ort_->KernelContext_GetInput(context, i, &inputs[i]));
    const std::vector<int64_t> sides = ort_.shape(inputs[X]);
    ort_.require(sides.size() == 4 && sides[0] == 1 && sides[1] % groups_ == 0,
                 "diamond.cpu.NormAffine: an input that is not (1, C, H, W)");
    const int64_t channels = sides[1], pixels = sides[2] * sides[3];
    ort_.require(elements(ort_.shape(inputs[GAIN])) == channels && elements(ort_.shape(inputs[SHIFT])) == channels,
                 "diamond.cpu.NormAffine: an input of another size");
    float* to[outputs];
    for (size_t i = 0; i < outputs; i++) {
      OrtValue* output = nullptr;
      ort_.check(ort_->KernelContext_GetOutput(context, i, &channels, 1, &output));
      to[i] = ort_.data(output);
    }
    const float *x = ort_.data(inputs[X]), *gain = ort_.data(inputs[GAIN]), *shift = ort_.data(inputs[SHIFT]);
    std::vector<double> sums(channels), squares(channels);
    const auto measure = [&](int64_t c) { kernels_->moments(x + c * pixels, pixels, &sums[c], &squares[c]); };
    if (channels * pixels < 65536)
      for (int64_t c = 0; c < channels; c++) measure(c);
    else
      parallel(ort_, context, channels, measure);
    const int64_t size = channels / groups_;
    for (int64_t g = 0; g < groups_; g++) {
      double sum = 0, square = 0;
      for (int64_t c = g * size; c < (g + 1) * size; c++) sum += sums[c], square += squares[c];
      const double mean = sum / (size * pixels), variance = std::max(0., square / (size * pixels) - mean * mean);
      const double inverse = 1 / std::sqrt(variance + epsilon_);
      for (int64_t c = g * size; c < (g + 1) * size; c++) {
        to[0][c] = static_cast<float>(gain[c] * inverse);
        to[1][c] = static_cast<float>(shift[c] - mean * gain[c] * inverse);
      }
    }
  }

 private:
  Ort ort_;
  const Kernels* kernels_;
  int64_t groups_ = 0;
  float epsilon_ = 0;
};

// (3, heads, HEAD, positions), which are queries, keys and values -> (1, heads, HEAD, positions)
class Attention {
 public:
  enum Input { QKV, INPUTS };
  static constexpr size_t outputs = 1;
  static constexpr const char* name = "Attention";
  static bool is_optional(size_t) { return false; }

  Attention(const OrtApi* api, const OrtKernelInfo*) : ort_(api), kernels_(diamond::kernels()) {
    ort_.require(kernels_ != nullptr, "diamond.cpu.Attention: this processor has no kernels");
  }

  void compute(OrtKernelContext* context) {
    const OrtValue* qkv = nullptr;
    ort_.check(ort_->KernelContext_GetInput(context, QKV, &qkv));
    const std::vector<int64_t> sides = ort_.shape(qkv);
    ort_.require(sides.size() == 4 && sides[0] == 3 && sides[2] == diamond::HEAD,
                 "diamond.cpu.Attention: an input that is not (3, heads, 8, positions)");
    const int64_t heads = sides[1], positions = sides[3], head = diamond::HEAD * positions, all = heads * head;
    const std::vector<int64_t> out{1, heads, sides[2], positions};
    OrtValue* output = nullptr;
    ort_.check(ort_->KernelContext_GetOutput(context, 0, out.data(), out.size(), &output));
    const float* x = ort_.data(qkv);
    float* y = ort_.data(output);
    const int64_t runs = (positions + kernels_->run_queries - 1) / kernels_->run_queries;
    parallel(ort_, context, heads, [&](int64_t h) {
      const float *q = x + h * head, *k = q + all, *v = k + all;
      float* scores = products.floats(kernels_->score_floats(positions));
      for (int64_t run = 0; run < runs; run++) kernels_->attend(q, k, v, positions, run, scores, y + h * head);
    });
  }

 private:
  Ort ort_;
  const Kernels* kernels_;
};

// ONNX Runtime's table of functions for an operator.
template <typename Operator> struct Table : OrtCustomOp {
  Table() : OrtCustomOp{} {
    version = API;
    GetName = [](const OrtCustomOp*) { return Operator::name; };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return "CPUExecutionProvider"; };
    GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return Operator::INPUTS; };
    GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return Operator::outputs; };
    GetInputType = GetOutputType = [](const OrtCustomOp*, size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; };
    GetInputCharacteristic = [](const OrtCustomOp*, size_t index) {
      return Operator::is_optional(index) ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
    };
    GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
    GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
    GetStartVersion = [](const OrtCustomOp*) { return 1; };
    GetEndVersion = [](const OrtCustomOp*) { return 1; };
    CreateKernelV2 = [](const OrtCustomOp*, const OrtApi* api, const OrtKernelInfo* info, void** kernel) {
      return guarded(api, [&] { *kernel = new Made{api, Operator(api, info)}; });
    };
    KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
      auto* made = static_cast<Made*>(kernel);
      return guarded(made->api, [&] { made->op.compute(context); });
    };
    KernelDestroy = [](void* kernel) { delete static_cast<Made*>(kernel); };
  }
  struct Made {
    const OrtApi* api;
    Operator op;
  };
};

}  // namespace

extern "C" {

// What the kernels are written for; null where this processor has none.
__attribute__((visibility("default"))) const char* diamond_kernels() {
  const Kernels* kernels = diamond::kernels();
  return kernels == nullptr ? nullptr : kernels->name;
}

// Which sources this was compiled from, see hatch_build.py.
__attribute__((visibility("default"))) const char* diamond_sources() { return DIAMOND_SOURCES; }

// Called by ONNX Runtime for `SessionOptions.register_custom_ops_library`.
__attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                    const OrtApiBase* base) {
  static const Table<Conv3x3> conv;
  static const Table<NormAffine> norm;
  static const Table<Attention> attention;
  const OrtApi* api = base->GetApi(API);
  if (api == nullptr) return base->GetApi(1)->CreateStatus(ORT_FAIL, "diamond.cpu: ONNX Runtime 1.17 or newer");
  OrtCustomOpDomain* domain = nullptr;  // lives as long as the process: sessions refer to it
  OrtStatus* status = api->CreateCustomOpDomain("diamond.cpu", &domain);
  if (status == nullptr) status = api->CustomOpDomain_Add(domain, &conv);
  if (status == nullptr) status = api->CustomOpDomain_Add(domain, &norm);
  if (status == nullptr) status = api->CustomOpDomain_Add(domain, &attention);
  if (status == nullptr) status = api->AddCustomOpDomain(options, domain);
  return status;
}

}  // extern "C"
