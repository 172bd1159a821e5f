// y = x W^T + b for a few rows of x: most of the time goes into reading W, so it is kept in bf16, half as long. Included by
// kernels.cpp alone.
#pragma once
#include "kernels.hpp"
#include "vectors.hpp"

namespace diamond {
namespace {

#if defined(DIAMOND_BF16)
int64_t weight_lanes(int64_t inputs) { return (inputs + 2 * L - 1) / (2 * L) * L; }  // of a row of W: two inputs a lane

void pack_linear(const float* weights, int64_t outputs, int64_t inputs, void* packed) {
  const int64_t lanes = weight_lanes(inputs);
  for (int64_t m = 0; m < outputs; m++)
    for (int64_t i = 0; i < lanes; i++) {
      float pair[2] = {};
      for (int t = 0; t < 2 && 2 * i + t < inputs; t++) pair[t] = weights[m * inputs + 2 * i + t];
      static_cast<Factor*>(packed)[m * lanes + i] = together(pair);
    }
}

// x (rows, 2, lanes): the even inputs of a row and then the odd ones, filled up with zeros; in float32, unlike W.
void linear(const float* x, int64_t rows, int64_t inputs, const void* packed, const float* bias, int64_t outputs,
            int64_t first, int64_t last, float* y) {
  const int64_t lanes = weight_lanes(inputs);
  for (int64_t m = first; m < last; m++) {
    const Factor* of = static_cast<const Factor*>(packed) + m * lanes;
    for (int64_t row = 0; row < rows; row++) {
      const float *even = x + row * 2 * lanes, *odd = even + lanes;
      Vec sums[4] = {};
      for (int64_t i = 0; i < lanes; i += L) {
        const Factors pair = load(of, i);
        Vec low, high;
        const Ints low_bits = pair << 16, high_bits = pair & static_cast<int32_t>(0xffff0000);
        std::memcpy(&low, &low_bits, sizeof low);
        std::memcpy(&high, &high_bits, sizeof high);
        const int64_t turn = i / L % 2 * 2;
        sums[turn] += low * load(even + i);
        sums[turn + 1] += high * load(odd + i);
      }
      const Vec all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
      float total = bias[m];
      for (int lane = 0; lane < L; lane++) total += all[lane];
      y[row * outputs + m] = total;
    }
  }
}
#endif

}  // namespace
}  // namespace diamond
