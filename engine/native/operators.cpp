// Operators for ONNX Runtime's CPU, in the domain diamond.cpu: Conv3x3, DirectConv, Int8Conv, Linear, NormAffine,
// Affine and Attention. See docs/native.md.
//
// engine/native/rewrite.py puts them in place of what a graph has from the standard. Tensors are float32, batch 1.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "onnxruntime/onnxruntime_c_api.h"
#include "int8.hpp"
#include "kernels.hpp"

namespace {

using diamond::Around;
using diamond::Grid;
using diamond::Int8Kernels;
using diamond::Kernels;
using diamond::Maps;
using diamond::Output;
using diamond::Shape;
using diamond::Values;
using diamond::Window;

constexpr uint32_t API = 17;  // the oldest of ONNX Runtime that has what is used here: 1.17
constexpr int64_t FEW_BLOCKS = 8;  // maps of fewer have one pass for the input and one for the products
constexpr int64_t GROUPS_AN_ITEM = 4;
constexpr int64_t OUTPUTS_AN_ITEM = 256;  // of a Linear
constexpr int64_t CHANNEL_PARTS = 8;
constexpr int64_t ROWS_AN_ITEM = 8;   // of the output of an Int8Conv
constexpr int64_t POSITIONS_AN_ITEM = 384;  // of a 1x1 convolution: a multiple of every kernels' registers

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
  float* floats(int64_t count) {  // or as many factors: four bytes each
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
thread_local Buffer lanes_in, products;

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

// The same for channels, where there is so much to do that a second thread pays.
template <typename Work>
void for_each_channel(const Ort& ort, const OrtKernelContext* context, int64_t channels, int64_t pixels, Work work) {
  if (channels * pixels >= 65536) return parallel(ort, context, channels, work);
  for (int64_t c = 0; c < channels; c++) work(c);
}

// The least and the largest value of silu(x * gain + shift), of x from `least` to `largest`; NaN where that is not finite.
void activated(float gain, float shift, float* least, float* largest) {
  const float a = *least * gain + shift, b = *largest * gain + shift, top = a > b ? a : b;
  const float of_top = top / (1 + std::exp(-top));
  const bool finite = std::isfinite(a) && std::isfinite(b);
  *largest = finite ? std::max(0.f, of_top) : std::numeric_limits<float>::quiet_NaN();
  *least = finite ? -0.2785f : *largest;  // silu is nowhere less
}

int64_t integer_attribute(const Ort& ort, const OrtKernelInfo* info, const char* name, int64_t missing) {
  int64_t found = missing;
  OrtStatus* status = ort->KernelInfoGetAttribute_int64(info, name, &found);
  if (status == nullptr) return found;
  ort->ReleaseStatus(status);
  return missing;
}

// The kernels that a node's attribute `bf16` asks for: 1, or 0 as without it.
const Kernels* kernels_of(const Ort& ort, const OrtKernelInfo* info) {
  const Kernels* kernels = integer_attribute(ort, info, "bf16", 0) != 0 ? diamond::bf16_kernels() : diamond::kernels();
  ort.require(kernels != nullptr, "diamond.cpu: this processor has no such kernels");
  return kernels;
}

const OrtValue* constant_weights(const Ort& ort, const OrtKernelInfo* info, size_t input) {
  int constant = 0;
  const OrtValue* weights = nullptr;
  ort.check(ort->KernelInfoGetConstantInput_tensor(info, input, &constant, &weights));
  ort.require(constant != 0 && weights != nullptr, "diamond.cpu: weights that are no constant");
  return weights;
}

// Which maps of a node are in bf16: a sum of these in its attribute `short_maps`. To ONNX Runtime they are float32 all
// the same, and their values lie in the first half of the memory that it gives them; nobody else reads them.
enum ShortMaps { SHORT_X = 1, SHORT_MORE = 2, SHORT_RESIDUAL = 4, SHORT_OUTPUT = 8 };
int64_t short_maps_of(const Ort& ort, const OrtKernelInfo* info) {
  const int64_t maps = integer_attribute(ort, info, "short_maps", 0);
  ort.require(maps == 0 || diamond::bf16_kernels() != nullptr, "diamond.cpu: this processor has no such kernels");
  return maps;
}

// How a node's maps are in memory: its attributes.
struct Layout {
  int64_t short_maps;  // which are in bf16
  int64_t fewer_rows;  // that its input has at the bottom and that are not read
  int64_t more_rows;   // of zeros at the bottom of its output
  int64_t doubled;     // whether every value of its input stands for 2x2

  Layout(const Ort& ort, const OrtKernelInfo* info)
      : short_maps(short_maps_of(ort, info)),
        fewer_rows(integer_attribute(ort, info, "fewer_rows", 0)),
        more_rows(integer_attribute(ort, info, "more_rows", 0)),
        doubled(integer_attribute(ort, info, "doubled", 0)) {
    ort.require(fewer_rows >= 0 && more_rows >= 0, "diamond.cpu: rows less than none");
  }
};

// A map (1, C, H, W), or two of them, of which `more` is the second or null; `sides` become those of what is read.
// `refusal` is said of a first one of another shape.
Maps joined(const Ort& ort, const OrtValue* x, const OrtValue* more, const Layout& layout, std::vector<int64_t>* sides,
            const char* refusal) {
  *sides = ort.shape(x);
  ort.require(sides->size() == 4 && (*sides)[0] == 1, refusal);
  const int64_t split = (*sides)[1];
  const Values first{ort.data(x), (layout.short_maps & SHORT_X) != 0};
  const int64_t pixels = (*sides)[2] * (*sides)[3];
  Values second{nullptr, false};
  if (more != nullptr) {
    const std::vector<int64_t> other = ort.shape(more);
    ort.require(other.size() == 4 && other[0] == 1 && other[2] == (*sides)[2] && other[3] == (*sides)[3],
                "diamond.cpu: two maps of different sizes");
    (*sides)[1] += other[1];
    second = {ort.data(more), (layout.short_maps & SHORT_MORE) != 0};
  }
  (*sides)[2] -= layout.fewer_rows;
  ort.require((*sides)[2] > 0, refusal);
  if (layout.doubled != 0) (*sides)[2] *= 2, (*sides)[3] *= 2;
  return {first, second, split, pixels, layout.doubled != 0};
}

// y = conv(x or silu(x * gain + shift), weights) + bias + residual, where x may come as two maps of channels, `more` being
// the second. How it is computed is left to Kind.
template <typename Kind> class Convolution {
 public:
  enum Input { X, WEIGHTS, BIAS, RESIDUAL, GAIN, SHIFT, MORE, RANGE };  // RANGE: of the convolution's input, Int8Conv's
  static constexpr size_t inputs = Kind::takes_range ? RANGE + 1 : MORE + 1;
  static constexpr size_t outputs = 1, optional_outputs = 0;
  static constexpr const char* name = Kind::name;
  static bool is_optional(size_t input) { return input > WEIGHTS; }

  Convolution(const OrtApi* api, const OrtKernelInfo* info) : ort_(api), kind_(ort_, info), layout_(ort_, info) {
    ort_.require(layout_.short_maps == 0 || kind_.takes_short_maps(),
                 "diamond.cpu: maps in bf16 for products in float32");
    ort_.require(layout_.doubled == 0 || Kind::takes_doubled, "diamond.cpu: a doubled map for another than Conv3x3");
    const OrtValue* weights = constant_weights(ort_, info, WEIGHTS);
    const std::vector<int64_t> sides = ort_.shape(weights);
    ort_.require(sides.size() == 4 && sides[2] == sides[3] && Kind::computes(sides[2]),
                 "diamond.cpu: weights of another shape than (K, C, 3, 3), or (K, C, 1, 1) for DirectConv and Int8Conv");
    const int64_t stride = Kind::takes_range ? integer_attribute(ort_, info, "stride", 1) : 1;
    ort_.require(stride == 1 || (stride == 2 && sides[2] == 3), "diamond.cpu: a stride that is neither 1 nor, of 3x3, 2");
    layer_ = Window{{sides[1], sides[0], 0, 0}, sides[2], stride};
    kind_.pack(layer_, ort_.data(weights));
  }

  void compute(OrtKernelContext* context) {
    size_t given = 0;
    ort_.check(ort_->KernelContext_GetInputCount(context, &given));
    const OrtValue* values[inputs] = {};
    for (size_t i = 0; i < given; i++) ort_.check(ort_->KernelContext_GetInput(context, i, &values[i]));
    std::vector<int64_t> sides;
    const Maps x = joined(ort_, values[X], values[MORE], layout_, &sides,
                          "diamond.cpu: an input of a convolution that is not (1, C, H, W)");
    ort_.require(sides[1] == layer_.shape.channels_in,
                 "diamond.cpu: an input of a convolution that is not (1, C, H, W)");
    const Shape s{layer_.shape.channels_in, layer_.shape.channels_out, sides[2], sides[3]};
    const Window w{s, layer_.side, layer_.stride};
    const std::vector<int64_t> out{1, s.channels_out, w.rows() + layout_.more_rows, w.columns()};
    const auto part = [&](size_t input, int64_t count) -> const float* {
      if (input >= inputs || values[input] == nullptr) return nullptr;
      ort_.require(elements(ort_.shape(values[input])) == count, "diamond.cpu: an input of a convolution of another size");
      return ort_.data(values[input]);
    };
    ort_.require(values[RESIDUAL] == nullptr || ort_.shape(values[RESIDUAL]) == out,
                 "diamond.cpu: a residual of another shape than the output");
    const Values residual{part(RESIDUAL, elements(out)), (layout_.short_maps & SHORT_RESIDUAL) != 0};
    const Around around{part(BIAS, s.channels_out), residual, part(GAIN, s.channels_in), part(SHIFT, s.channels_in)};
    ort_.require((around.gain == nullptr) == (around.shift == nullptr), "diamond.cpu: gain without shift");
    ort_.require(layout_.doubled == 0 || (around.gain == nullptr && layout_.fewer_rows == 0),
                 "diamond.cpu: a doubled map that is normed or cropped");
    const float* range = part(RANGE, 2);
    OrtValue* output = nullptr;
    ort_.check(ort_->KernelContext_GetOutput(context, 0, out.data(), out.size(), &output));
    const bool is_short = (layout_.short_maps & SHORT_OUTPUT) != 0;
    const Output y{ort_.data(output), is_short, out[2] * out[3]};
    for (int64_t c = 0; c < s.channels_out && layout_.more_rows > 0; c++) {
      const int64_t bytes = is_short ? 2 : 4, count = layout_.more_rows * out[3];
      std::memset(static_cast<char*>(y.data) + ((c + 1) * y.pixels - count) * bytes, 0, count * bytes);
    }
    kind_.run(ort_, context, w, around, x, range, y);
  }

 private:
  Ort ort_;
  Kind kind_;
  Layout layout_;
  Window layer_{};
};

// Runs work(first, last) for a part of a map's input channels, `together` of which share a lane.
template <typename Work> void for_channels(int64_t together, int64_t channels, int64_t part, Work work) {
  const int64_t depth = (channels + together - 1) / together;
  const int64_t first = part * depth / CHANNEL_PARTS * together, last = (part + 1) * depth / CHANNEL_PARTS * together;
  if (first < last) work(first, std::min(channels, last));
}

int64_t parts_of(int64_t whole, int64_t part) { return (whole + part - 1) / part; }

class Conv3x3 {
 public:
  static constexpr const char* name = "Conv3x3";
  static constexpr bool takes_range = false, takes_doubled = true;
  static bool computes(int64_t side) { return side == 3; }

  Conv3x3(const Ort& ort, const OrtKernelInfo* info) : kernels_(kernels_of(ort, info)) {}

  bool takes_short_maps() const { return kernels_ == diamond::bf16_kernels(); }

  void pack(const Window& w, const float* weights) {
    packed_ = weights_.floats(kernels_->packed_factors(w.shape));
    kernels_->pack(w.shape, weights, packed_);
  }

  void run(const Ort& ort, const OrtKernelContext* context, const Window& w, const Around& around, const Maps& x,
           const float*, Output y) const {
    const Kernels& k = *kernels_;
    const Shape& s = w.shape;
    const int64_t blocks = parts_of(s.tiles(), k.block_tiles), groups = parts_of(s.channels_out, k.group_channels);
    if (blocks >= FEW_BLOCKS) {
      parallel(ort, context, blocks, [&](int64_t block) {
        float* tiles = lanes_in.floats(k.block_factors(s));
        k.transform(s, around, x, block, 0, s.channels_in, tiles);
        k.multiply(s, around, packed_, tiles, products.floats(k.scratch_floats()), block, 0, groups, y);
      });
      return;
    }
    float* tiles = lanes_in.floats(blocks * k.block_factors(s));
    parallel(ort, context, blocks * CHANNEL_PARTS, [&](int64_t item) {
      const int64_t block = item / CHANNEL_PARTS;
      for_channels(k.together, s.channels_in, item % CHANNEL_PARTS, [&](int64_t first, int64_t last) {
        k.transform(s, around, x, block, first, last, tiles + block * k.block_factors(s));
      });
    });
    parallel(ort, context, parts_of(groups, GROUPS_AN_ITEM), [&](int64_t share) {
      const int64_t first = share * GROUPS_AN_ITEM, last = std::min(groups, first + GROUPS_AN_ITEM);
      for (int64_t block = 0; block < blocks; block++)  // with the same weights, which are then near
        k.multiply(s, around, packed_, tiles + block * k.block_factors(s), products.floats(k.scratch_floats()), block,
                   first, last, y);
    });
  }

 private:
  const Kernels* kernels_;
  Buffer weights_;
  float* packed_ = nullptr;
};

class DirectConv {
 public:
  static constexpr const char* name = "DirectConv";
  static constexpr bool takes_range = false, takes_doubled = false;
  static bool computes(int64_t side) { return side == 1 || side == 3; }

  DirectConv(const Ort& ort, const OrtKernelInfo* info) : kernels_(kernels_of(ort, info)) {}

  bool takes_short_maps() const { return kernels_ == diamond::bf16_kernels(); }

  void pack(const Window& w, const float* weights) {
    packed_ = weights_.floats(kernels_->window_factors(w));
    kernels_->pack_window(w, weights, packed_);
  }

  void run(const Ort& ort, const OrtKernelContext* context, const Window& w, const Around& around, const Maps& x,
           const float*, Output y) const {
    const Kernels& k = *kernels_;
    const int64_t channels = w.shape.channels_in, positions = k.window_positions(w);
    const int64_t groups = parts_of(w.shape.channels_out, k.group_channels);
    const int64_t items = parts_of(positions, POSITIONS_AN_ITEM);
    if (w.side == 1 && items >= FEW_BLOCKS) {
      parallel(ort, context, items, [&](int64_t item) {
        const int64_t begin = item * POSITIONS_AN_ITEM, count = std::min(POSITIONS_AN_ITEM, positions - begin);
        float* lanes = lanes_in.floats(k.spread_factors(w, count));
        k.spread(w, around, x, begin, count, 0, channels, lanes);
        k.sum_window(w, around, packed_, lanes, begin, count, 0, groups, y);
      });
      return;
    }
    float* lanes = lanes_in.floats(k.spread_factors(w, positions));
    parallel(ort, context, CHANNEL_PARTS, [&](int64_t part) {
      for_channels(k.together, channels, part, [&](int64_t first, int64_t last) {
        k.spread(w, around, x, 0, positions, first, last, lanes);
      });
    });
    parallel(ort, context, parts_of(groups, GROUPS_AN_ITEM), [&](int64_t share) {
      const int64_t first = share * GROUPS_AN_ITEM;
      k.sum_window(w, around, packed_, lanes, 0, positions, first, std::min(groups, first + GROUPS_AN_ITEM), y);
    });
  }

 private:
  const Kernels* kernels_;
  Buffer weights_;
  float* packed_ = nullptr;
};

// As DirectConv, with products of bytes. `range` is the least and the largest value of the convolution's input.
class Int8Conv {
 public:
  static constexpr const char* name = "Int8Conv";
  static constexpr bool takes_range = true, takes_doubled = false;
  static bool computes(int64_t side) { return side == 1 || side == 3; }

  Int8Conv(const Ort& ort, const OrtKernelInfo*) : kernels_(diamond::int8_kernels()) {
    ort.require(kernels_ != nullptr, "diamond.cpu: this processor has no such kernels");
  }

  bool takes_short_maps() const { return true; }

  void pack(const Window& w, const float* weights) {
    packed_ = weights_.floats(kernels_->packed_lanes(w));
    steps_.resize(w.shape.channels_out);
    sums_.resize(w.shape.channels_out);
    kernels_->pack(w, weights, packed_, steps_.data(), sums_.data());
  }

  void run(const Ort& ort, const OrtKernelContext* context, const Window& w, const Around& around, const Maps& x,
           const float* range, Output y) const {
    const Int8Kernels& k = *kernels_;
    const Shape& s = w.shape;
    const Grid grid = range == nullptr ? measured(ort, context, s, around, x) : grid_of(range[0], range[1]);
    const int64_t groups = parts_of(s.channels_out, k.group_channels), items = parts_of(w.rows(), ROWS_AN_ITEM);
    if (items * 2 >= FEW_BLOCKS) {
      parallel(ort, context, items, [&](int64_t item) {
        const int64_t row = item * ROWS_AN_ITEM, rows = std::min(ROWS_AN_ITEM, w.rows() - row);
        float* lanes = lanes_in.floats(k.row_lanes(w, rows));
        k.spread(w, around, grid, x, row, rows, 0, s.channels_in, lanes);
        k.multiply(w, around, grid, packed_, steps_.data(), sums_.data(), lanes, row, rows, 0, groups, y);
      });
      return;
    }
    float* lanes = lanes_in.floats(k.row_lanes(w, w.rows()));
    parallel(ort, context, CHANNEL_PARTS, [&](int64_t part) {
      for_channels(k.lane_channels, s.channels_in, part, [&](int64_t first, int64_t last) {
        k.spread(w, around, grid, x, 0, w.rows(), first, last, lanes);
      });
    });
    parallel(ort, context, parts_of(groups, GROUPS_AN_ITEM), [&](int64_t share) {
      const int64_t first = share * GROUPS_AN_ITEM;
      k.multiply(w, around, grid, packed_, steps_.data(), sums_.data(), lanes, 0, w.rows(), first,
                 std::min(groups, first + GROUPS_AN_ITEM), y);
    });
  }

 private:
  static Grid grid_of(float least, float largest) {
    least = std::min(least, 0.f), largest = std::max(largest, 0.f);
    const float step = std::max((largest - least) / 254, 1e-30f);  // 254: rounding `zero` moves both ends
    return std::isfinite(step) ? Grid{step, static_cast<int32_t>(std::nearbyint(-least / step))}
                               : Grid{std::numeric_limits<float>::quiet_NaN(), 0};
  }

  Grid measured(const Ort& ort, const OrtKernelContext* context, const Shape& s, const Around& around,
                const Maps& x) const {
    std::vector<float> least(s.channels_in), largest(s.channels_in);
    const int64_t pixels = s.height * s.width;
    const auto measure = [&](int64_t c) {
      kernels_->extremes(x.plane(c), pixels, &least[c], &largest[c]);
      if (around.gain != nullptr) activated(around.gain[c], around.shift[c], &least[c], &largest[c]);
    };
    for_each_channel(ort, context, s.channels_in, pixels, measure);
    float low = 0, high = 0;
    for (int64_t c = 0; c < s.channels_in; c++) {
      if (std::isnan(least[c]) || std::isnan(largest[c])) return grid_of(least[c] + largest[c], 0.f);
      low = std::min(low, least[c]), high = std::max(high, largest[c]);
    }
    return grid_of(low, high);
  }

  const Int8Kernels* kernels_;
  Buffer weights_;
  float* packed_ = nullptr;
  std::vector<float> steps_;
  std::vector<int32_t> sums_;
};

// Group norm with its modulation, as one factor and one addend a channel: y = x * scale + offset.
class NormAffine {
 public:
  enum Input { X, GAIN, SHIFT, MORE };
  static constexpr size_t inputs = MORE + 1;
  static constexpr size_t outputs = 3, optional_outputs = 1;  // the third: the range of silu(y)
  static constexpr const char* name = "NormAffine";
  static bool is_optional(size_t input) { return input == MORE; }

  NormAffine(const OrtApi* api, const OrtKernelInfo* info)
      : ort_(api),
        layout_(ort_, info),
        kernels_(layout_.short_maps != 0 ? diamond::bf16_kernels() : diamond::kernels()) {
    ort_.require(kernels_ != nullptr, "diamond.cpu.NormAffine: this processor has no kernels");
    ort_.check(api->KernelInfoGetAttribute_int64(info, "groups", &groups_));
    ort_.check(api->KernelInfoGetAttribute_float(info, "epsilon", &epsilon_));
    ort_.require(groups_ > 0, "diamond.cpu.NormAffine: no groups");
    ort_.require(layout_.doubled == 0, "diamond.cpu: a doubled map for another than Conv3x3");
  }

  void compute(OrtKernelContext* context) {
    size_t given = 0, asked = 0;
    ort_.check(ort_->KernelContext_GetInputCount(context, &given));
    ort_.check(ort_->KernelContext_GetOutputCount(context, &asked));
    const OrtValue* values[inputs] = {};
    for (size_t i = 0; i < given; i++) ort_.check(ort_->KernelContext_GetInput(context, i, &values[i]));
    std::vector<int64_t> sides;
    const Maps x = joined(ort_, values[X], values[MORE], layout_, &sides,
                          "diamond.cpu.NormAffine: an input that is not (1, C, H, W)");
    const int64_t channels = sides[1], pixels = sides[2] * sides[3];
    ort_.require(channels % groups_ == 0, "diamond.cpu.NormAffine: an input that is not (1, C, H, W)");
    ort_.require(elements(ort_.shape(values[GAIN])) == channels && elements(ort_.shape(values[SHIFT])) == channels,
                 "diamond.cpu.NormAffine: an input of another size");
    float* to[outputs] = {};
    for (size_t i = 0; i < asked; i++) {
      const int64_t count = i == 2 ? 2 : channels;
      OrtValue* output = nullptr;
      ort_.check(ort_->KernelContext_GetOutput(context, i, &count, 1, &output));
      if (output != nullptr) to[i] = ort_.data(output);
    }
    const Int8Kernels* bytes = to[2] == nullptr ? nullptr : diamond::int8_kernels();
    ort_.require(to[2] == nullptr || bytes != nullptr, "diamond.cpu: this processor has no such kernels");
    const float *gain = ort_.data(values[GAIN]), *shift = ort_.data(values[SHIFT]);
    std::vector<double> sums(channels), squares(channels);
    std::vector<float> least(channels), largest(channels);
    const auto measure = [&](int64_t c) {
      kernels_->moments(x.plane(c), pixels, &sums[c], &squares[c]);
      if (bytes != nullptr) bytes->extremes(x.plane(c), pixels, &least[c], &largest[c]);
    };
    for_each_channel(ort_, context, channels, pixels, measure);
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
    if (bytes == nullptr) return;
    to[2][0] = -0.2785f, to[2][1] = 0;
    for (int64_t c = 0; c < channels; c++) {
      activated(to[0][c], to[1][c], &least[c], &largest[c]);
      if (!(largest[c] <= to[2][1])) to[2][1] = largest[c];  // NaN stays
      if (std::isnan(to[2][1])) return;
    }
  }

 private:
  Ort ort_;
  Layout layout_;
  const Kernels* kernels_;
  int64_t groups_ = 0;
  float epsilon_ = 0;
};

// y = x * scale + offset, by channels: a norm that no convolution takes in.
class Affine {
 public:
  enum Input { X, SCALE, OFFSET };
  static constexpr size_t inputs = OFFSET + 1, outputs = 1, optional_outputs = 0;
  static constexpr const char* name = "Affine";
  static bool is_optional(size_t) { return false; }

  Affine(const OrtApi* api, const OrtKernelInfo* info)
      : ort_(api),
        layout_(ort_, info),
        kernels_(layout_.short_maps != 0 ? diamond::bf16_kernels() : diamond::kernels()) {
    ort_.require(kernels_ != nullptr, "diamond.cpu: this processor has no such kernels");
    ort_.require(layout_.fewer_rows + layout_.more_rows + layout_.doubled == 0,
                 "diamond.cpu.Affine: maps of other rows");
  }

  void compute(OrtKernelContext* context) {
    const OrtValue* values[inputs] = {};
    for (size_t i = 0; i < inputs; i++) ort_.check(ort_->KernelContext_GetInput(context, i, &values[i]));
    std::vector<int64_t> sides;
    const Maps x =
        joined(ort_, values[X], nullptr, layout_, &sides, "diamond.cpu.Affine: an input that is not (1, C, H, W)");
    const int64_t channels = sides[1];
    ort_.require(elements(ort_.shape(values[SCALE])) == channels && elements(ort_.shape(values[OFFSET])) == channels,
                 "diamond.cpu.Affine: an input of another size");
    const float *scale = ort_.data(values[SCALE]), *offset = ort_.data(values[OFFSET]);
    OrtValue* output = nullptr;
    ort_.check(ort_->KernelContext_GetOutput(context, 0, sides.data(), sides.size(), &output));
    const Output y{ort_.data(output), (layout_.short_maps & SHORT_OUTPUT) != 0, x.pixels};
    const auto compute_one = [&](int64_t c) {
      kernels_->affine(x.plane(c), scale[c], offset[c], x.pixels, c * x.pixels, y);
    };
    for_each_channel(ort_, context, channels, x.pixels, compute_one);
  }

 private:
  Ort ort_;
  Layout layout_;
  const Kernels* kernels_;
};

// (3, heads, HEAD, positions), which are queries, keys and values -> (1, heads, HEAD, positions)
class Attention {
 public:
  enum Input { QKV };
  static constexpr size_t inputs = 1, outputs = 1, optional_outputs = 0;
  static constexpr const char* name = "Attention";
  static bool is_optional(size_t) { return false; }

  Attention(const OrtApi* api, const OrtKernelInfo* info) : ort_(api), kernels_(kernels_of(ort_, info)) {}

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
    parallel(ort_, context, heads, [&](int64_t h) {
      const float *q = x + h * head, *k = q + all, *v = k + all;
      kernels_->attend(q, k, v, positions, products.floats(kernels_->attention_floats(positions)), y + h * head);
    });
  }

 private:
  Ort ort_;
  const Kernels* kernels_;
};

// (E, K), weights (M, K), bias (M,) -> (E, M), with the weights in bf16
class Linear {  // or, with the attribute int8, in bytes
 public:
  enum Input { X, WEIGHTS, BIAS };
  static constexpr size_t inputs = 3, outputs = 1, optional_outputs = 0;
  static constexpr const char* name = "Linear";
  static bool is_optional(size_t) { return false; }

  Linear(const OrtApi* api, const OrtKernelInfo* info) : ort_(api), kernels_(diamond::bf16_kernels()) {
    if (integer_attribute(ort_, info, "int8", 0) != 0) bytes_ = diamond::int8_kernels(), kernels_ = nullptr;
    ort_.require(kernels_ != nullptr || bytes_ != nullptr, "diamond.cpu: this processor has no such kernels");
    const OrtValue* weights = constant_weights(ort_, info, WEIGHTS);
    const std::vector<int64_t> sides = ort_.shape(weights);
    ort_.require(sides.size() == 2, "diamond.cpu.Linear: weights that are not (M, K)");
    outputs_ = sides[0], inputs_ = sides[1];
    if (bytes_ != nullptr) {
      packed_ = weights_.floats(outputs_ * bytes_->weight_lanes(inputs_));
      steps_.resize(outputs_);
      bytes_->pack_linear(ort_.data(weights), outputs_, inputs_, packed_, steps_.data());
      return;
    }
    packed_ = weights_.floats(outputs_ * kernels_->weight_lanes(inputs_));
    kernels_->pack_linear(ort_.data(weights), outputs_, inputs_, packed_);
  }

  void compute(OrtKernelContext* context) {
    const OrtValue* values[inputs] = {};
    for (size_t i = 0; i < inputs; i++) ort_.check(ort_->KernelContext_GetInput(context, i, &values[i]));
    const std::vector<int64_t> sides = ort_.shape(values[X]);
    ort_.require(sides.size() == 2 && sides[1] == inputs_ && elements(ort_.shape(values[BIAS])) == outputs_,
                 "diamond.cpu.Linear: an input of another size");
    const std::vector<int64_t> out{sides[0], outputs_};
    OrtValue* output = nullptr;
    ort_.check(ort_->KernelContext_GetOutput(context, 0, out.data(), out.size(), &output));
    const float *x = ort_.data(values[X]), *bias = ort_.data(values[BIAS]);
    float* y = ort_.data(output);
    const int64_t items = parts_of(outputs_, OUTPUTS_AN_ITEM);
    if (bytes_ != nullptr) {
      parallel(ort_, context, items, [&](int64_t item) {
        const int64_t first = item * OUTPUTS_AN_ITEM, last = std::min(outputs_, first + OUTPUTS_AN_ITEM);
        bytes_->linear(x, sides[0], inputs_, packed_, steps_.data(), bias, outputs_, first, last, y);
      });
      return;
    }
    const int64_t lanes = kernels_->weight_lanes(inputs_);
    float* apart = lanes_in.floats(sides[0] * 2 * lanes);
    std::memset(apart, 0, sizeof(float) * sides[0] * 2 * lanes);
    for (int64_t row = 0; row < sides[0]; row++)
      for (int64_t i = 0; i < inputs_; i++) apart[(row * 2 + i % 2) * lanes + i / 2] = x[row * inputs_ + i];
    parallel(ort_, context, items, [&](int64_t item) {
      const int64_t first = item * OUTPUTS_AN_ITEM;
      kernels_->linear(apart, sides[0], inputs_, packed_, bias, outputs_, first,
                       std::min(outputs_, first + OUTPUTS_AN_ITEM), y);
    });
  }

 private:
  Ort ort_;
  const Kernels* kernels_;
  const Int8Kernels* bytes_ = nullptr;
  Buffer weights_;
  float* packed_ = nullptr;
  std::vector<float> steps_;
  int64_t outputs_ = 0, inputs_ = 0;
};

// ONNX Runtime's table of functions for an operator.
template <typename Operator> struct Table : OrtCustomOp {
  Table() : OrtCustomOp{} {
    version = API;
    GetName = [](const OrtCustomOp*) { return Operator::name; };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return "CPUExecutionProvider"; };
    GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return Operator::inputs; };
    GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return Operator::outputs; };
    GetInputType = GetOutputType = [](const OrtCustomOp*, size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; };
    GetInputCharacteristic = [](const OrtCustomOp*, size_t index) {
      return Operator::is_optional(index) ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
    };
    GetOutputCharacteristic = [](const OrtCustomOp*, size_t index) {
      return index + Operator::optional_outputs < Operator::outputs ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
    };
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

// What the kernels are written for that multiply float32 (0), bf16 (1) or bytes (2); null where this processor has none.
__attribute__((visibility("default"))) const char* diamond_kernels(int products) {
  if (products == 2) {
    const Int8Kernels* kernels = diamond::int8_kernels();
    return kernels == nullptr ? nullptr : kernels->name;
  }
  const Kernels* kernels = products == 1 ? diamond::bf16_kernels() : diamond::kernels();
  return kernels == nullptr ? nullptr : kernels->name;
}

// Which sources this was compiled from, see hatch_build.py.
__attribute__((visibility("default"))) const char* diamond_sources() { return DIAMOND_SOURCES; }

// Called by ONNX Runtime for `SessionOptions.register_custom_ops_library`.
__attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                    const OrtApiBase* base) {
  static const Table<Convolution<Conv3x3>> conv;
  static const Table<Convolution<DirectConv>> direct;
  static const Table<Convolution<Int8Conv>> int8;
  static const Table<Linear> linear;
  static const Table<NormAffine> norm;
  static const Table<Affine> affine;
  static const Table<Attention> attention;
  const OrtApi* api = base->GetApi(API);
  if (api == nullptr) return base->GetApi(1)->CreateStatus(ORT_FAIL, "diamond.cpu: ONNX Runtime 1.17 or newer");
  OrtCustomOpDomain* domain = nullptr;  // lives as long as the process: sessions refer to it
  OrtStatus* status = api->CreateCustomOpDomain("diamond.cpu", &domain);
  if (status == nullptr) status = api->CustomOpDomain_Add(domain, &conv);
  if (status == nullptr) status = api->CustomOpDomain_Add(domain, &direct);
  if (status == nullptr) status = api->CustomOpDomain_Add(domain, &int8);
  if (status == nullptr) status = api->CustomOpDomain_Add(domain, &linear);
  if (status == nullptr) status = api->CustomOpDomain_Add(domain, &norm);
  if (status == nullptr) status = api->CustomOpDomain_Add(domain, &affine);
  if (status == nullptr) status = api->CustomOpDomain_Add(domain, &attention);
  if (status == nullptr) status = api->AddCustomOpDomain(options, domain);
  return status;
}

}  // extern "C"
