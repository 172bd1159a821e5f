// Convolutions that multiply bytes: of 1x1, and of 3x3 with padding 1 and stride 1 or 2; and linear layers.
//
// The input of a convolution is put on a grid of 255 levels between its least and its largest value, both found while
// it is played, so nothing has to be calibrated; weights on one of 255 levels an output channel.
#pragma once
#include <cstdint>

#include "kernels.hpp"

namespace diamond {

// value = step * (level - zero), level from 0 to 255; a value of 0 is on the grid.
struct Grid {
  float step;  // NaN where a value was NaN
  int32_t zero;
};

struct Int8Kernels {
  const char* name;
  int64_t group_channels;  // output channels that are computed together
  int64_t lane_channels;   // input channels in a lane; ranges of them begin with a multiple of it

  int64_t (*packed_lanes)(const Window&);  // of four bytes
  // Weights (K, C, side, side) to levels; the steps and the sums of the levels of every output channel.
  void (*pack)(const Window&, const float* weights, void* packed, float* steps, int32_t* sums);
  // The least and the largest of `count` values, NaN where there is one.
  void (*extremes)(Values x, int64_t count, float* least, float* largest);
  int64_t (*row_lanes)(const Window&, int64_t rows);  // what the input of so many rows of the output takes
  // The input channels [first, last) of what the output rows [row, row + rows) are computed from.
  void (*spread)(const Window&, const Around&, const Grid&, const Maps& x, int64_t row, int64_t rows, int64_t first,
                 int64_t last, void* to);
  // The output channels of the groups [first, last) of those rows.
  void (*multiply)(const Window&, const Around&, const Grid&, const void* packed, const float* steps,
                   const int32_t* sums, const void* lanes, int64_t row, int64_t rows, int64_t first, int64_t last,
                   Output y);

  // Rows of W (M, K) to levels and steps; y (rows, M) = x (rows, K) W^T + b for the outputs [first, last).
  int64_t (*weight_lanes)(int64_t inputs);
  void (*pack_linear)(const float* weights, int64_t outputs, int64_t inputs, void* packed, float* steps);
  void (*linear)(const float* x, int64_t rows, int64_t inputs, const void* packed, const float* steps,
                 const float* bias, int64_t outputs, int64_t first, int64_t last, float* y);
};

const Int8Kernels* int8_kernels();  // null where this processor multiplies no bytes

}  // namespace diamond
