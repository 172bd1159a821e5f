// What the operators compute with, compiled once for each set of instructions. Maps are float32, planar: C planes of H
// rows of W.
#pragma once
#include <cstdint>

namespace diamond {

// A 3x3 convolution with stride 1 and padding 1.
struct Shape {
  int64_t channels_in, channels_out, height, width;
  int64_t tiles_x() const { return (width + 3) / 4; }  // of 4x4 outputs
  int64_t tiles() const { return tiles_x() * ((height + 3) / 4); }
};

// What is added to it, and what is done to its input first. Null pointers leave a part out.
struct Around {
  const float* bias;      // channels_out
  const float* residual;  // a map like the output, added to it
  const float* gain;      // channels_in: the input becomes silu(x * gain + shift) before it is padded
  const float* shift;     // channels_in
};

constexpr int HEAD = 8;  // channels of an attention head

struct Kernels {
  const char* name;

  // Convolution. A block is as many tiles as the registers take at once; what one needs of `transformed` is
  // block_floats(), of `scratch` scratch_floats(), both aligned to 64 bytes.
  int64_t block_tiles;     // tiles in a block
  int64_t group_channels;  // output channels that are computed together
  int64_t (*packed_floats)(const Shape&);
  void (*pack)(const Shape&, const float* weights, float* packed);  // weights (K, C, 3, 3)
  int64_t (*block_floats)(const Shape&);
  int64_t (*scratch_floats)();
  // The input channels [first, last) of a block, into `transformed`.
  void (*transform)(const Shape&, const Around&, const float* x, int64_t block, int64_t first, int64_t last,
                    float* transformed);
  // The output channels of a block's groups [first, last).
  void (*multiply)(const Shape&, const Around&, const float* packed, const float* transformed, float* scratch,
                   int64_t block, int64_t first, int64_t last, float* y);

  // Attention of one head, all (HEAD, positions): the queries [run * run_queries, (run + 1) * run_queries).
  int64_t run_queries;
  int64_t (*score_floats)(int64_t positions);
  void (*attend)(const float* q, const float* k, const float* v, int64_t positions, int64_t run, float* scores,
                 float* y);

  // Sums of `count` floats and of their squares.
  void (*moments)(const float* x, int64_t count, double* sum, double* squares);
};

const Kernels* kernels();  // the best for this processor; null where there are none

}  // namespace diamond
