// What the operators compute with, compiled once for each set of instructions. Maps are planar, C planes of H rows of
// W, in float32; or, between two operators of ours that multiply in less, in bf16.
#pragma once
#include <cstdint>

namespace diamond {

// A 3x3 convolution with stride 1 and padding 1.
struct Shape {
  int64_t channels_in, channels_out, height, width;
  int64_t tiles_x() const { return (width + 3) / 4; }  // of 4x4 outputs
  int64_t tiles() const { return tiles_x() * ((height + 3) / 4); }
};

// Some of a map, in float32 or in bf16.
struct Values {
  const void* data;
  bool short_ones;  // bf16
  const float* floats() const { return static_cast<const float*>(data); }
  const uint16_t* shorts() const { return static_cast<const uint16_t*>(data); }
  Values from(int64_t i) const { return {static_cast<const char*>(data) + i * (short_ones ? 2 : 4), short_ones}; }
};
struct Output {
  void* data;
  bool short_ones;
  int64_t pixels;  // from one plane to the next: there may be more rows than are computed
};

// An input of C channels: two maps of them, one after the other, so that nobody has to write both down together.
struct Maps {
  Values first;
  Values second;  // from channel `split` on; null where the first map has all
  int64_t split;
  int64_t pixels;        // from one plane to the next: a map may have more rows than are read
  bool doubled = false;  // every value stands for 2x2 of the input; Conv3x3 alone reads such maps
  Values plane(int64_t channel) const {
    return channel < split ? first.from(channel * pixels) : second.from((channel - split) * pixels);
  }
};

// What is added to it, and what is done to its input first. Null pointers leave a part out.
struct Around {
  const float* bias;      // channels_out
  Values residual;        // a map like the output, added to it
  const float* gain;      // channels_in: the input becomes silu(x * gain + shift) before it is padded
  const float* shift;     // channels_in
};

// A convolution of 1x1, or of 3x3 with padding 1.
struct Window {
  Shape shape;     // of its input
  int64_t side;    // 1 or 3
  int64_t stride;  // 1; with 3x3 in int8 also 2
  int64_t rows() const { return (shape.height + stride - 1) / stride; }  // of its output
  int64_t columns() const { return (shape.width + stride - 1) / stride; }
};

constexpr int HEAD = 8;  // channels of an attention head

struct Kernels {
  const char* name;

  // Factors of products are four bytes: a float, or two of bf16 of neighbouring channels. Where a range of input channels
  // begins and ends within a map, that is a multiple of `together`.
  int64_t together;
  int64_t group_channels;  // output channels that are computed together

  // A 3x3 convolution. A block is as many tiles as the registers take at once; what one needs of `transformed` is
  // block_factors(), of `scratch` scratch_floats(), both aligned to 64 bytes.
  int64_t block_tiles;
  int64_t (*packed_factors)(const Shape&);
  void (*pack)(const Shape&, const float* weights, void* packed);  // weights (K, C, 3, 3)
  int64_t (*block_factors)(const Shape&);
  int64_t (*scratch_floats)();
  // The input channels [first, last) of a block, into `transformed`.
  void (*transform)(const Shape&, const Around&, const Maps& x, int64_t block, int64_t first, int64_t last,
                    void* transformed);
  // The output channels of a block's groups [first, last).
  void (*multiply)(const Shape&, const Around&, const void* packed, const void* transformed, float* scratch,
                   int64_t block, int64_t first, int64_t last, Output y);

  // A convolution of `Window`, for some of its positions at a time; those of 3x3 all at once.
  int64_t (*window_positions)(const Window&);
  int64_t (*window_factors)(const Window&);
  void (*pack_window)(const Window&, const float* weights, void* packed);  // weights (K, C, side, side)
  int64_t (*spread_factors)(const Window&, int64_t count);
  // The input channels [first, last) at the positions [begin, begin + count).
  void (*spread)(const Window&, const Around&, const Maps& x, int64_t begin, int64_t count, int64_t first, int64_t last,
                 void* spread_out);
  // The output channels of the groups [first, last) at the same positions.
  void (*sum_window)(const Window&, const Around&, const void* packed, const void* spread_out, int64_t begin,
                     int64_t count, int64_t first, int64_t last, Output y);

  // Attention of one head: y = v softmax(q^T k)^T, all (HEAD, positions); what it needs of `scratch` is
  // attention_floats().
  int64_t (*attention_floats)(int64_t positions);
  void (*attend)(const float* q, const float* k, const float* v, int64_t positions, float* scratch, float* y);

  // Linear layers: the outputs [first, last) of rows of x, which lies as linear.hpp says; null in the kernels for float32.
  int64_t (*weight_lanes)(int64_t inputs);
  void (*pack_linear)(const float* weights, int64_t outputs, int64_t inputs, void* packed);
  void (*linear)(const float* x, int64_t rows, int64_t inputs, const void* packed, const float* bias, int64_t outputs,
                 int64_t first, int64_t last, float* y);

  // Sums of `count` values and of their squares.
  void (*moments)(Values x, int64_t count, double* sum, double* squares);

  // x * scale + offset of `count` values, to y from `place` on.
  void (*affine)(Values x, float scale, float offset, int64_t count, int64_t place, Output y);
};

const Kernels* kernels();       // the best for this processor; null where there are none
const Kernels* bf16_kernels();  // those that multiply in bf16; null where the processor does not

}  // namespace diamond
